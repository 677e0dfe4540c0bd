() => {
  // SPDX-License-Identifier: Apache-2.0
  // A line in the timeline follows the labelled video, and a click on a strip goes there.
  const video = () => document.querySelector('#ov-result video');
  const chart = () => document.querySelector('.ov-chart');
  const follow = (event) => {
    if (!chart() || event.target !== video()) return;
    const seconds = Number(chart().dataset.seconds);
    chart().style.setProperty('--now', Math.min(1, event.target.currentTime / seconds));
  };
  for (const name of ['timeupdate', 'seeking', 'seeked']) document.addEventListener(name, follow, true);
  document.addEventListener('click', (event) => {
    const strip = event.target.closest && event.target.closest('.ov-strip');
    if (!strip || !video()) return;
    const box = strip.getBoundingClientRect();
    video().currentTime = ((event.clientX - box.left) / box.width) * Number(chart().dataset.seconds);
  });
}
