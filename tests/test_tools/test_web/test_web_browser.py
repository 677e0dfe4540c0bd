# SPDX-License-Identifier: Apache-2.0
"""The page in a real browser, from upload to overlay and timeline; skipped where there is no Chromium."""

import importlib.util
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import av
import pytest

from ovavss_mm.mini_world.video import video_scenes, write_video

ROOT = Path(__file__).parents[3]
BROWSERS = ('chromium', 'chromium-browser', 'google-chrome', 'google-chrome-stable')
BROWSER = next(filter(None, map(shutil.which, BROWSERS)), None)
DRIVER = shutil.which('chromedriver')
MISSING = [
    *(['gradio'] if importlib.util.find_spec('gradio') is None else []),
    *(['selenium'] if importlib.util.find_spec('selenium') is None else []),
    *([] if BROWSER else ['Chromium (Debian: apt-get install chromium)']),
    *([] if DRIVER else ['chromedriver (Debian: apt-get install chromium-driver)']),
]
pytestmark = pytest.mark.skipif(bool(MISSING), reason=f'not installed: {", ".join(MISSING)}')
PATIENCE = 60  # s
# The button is off while a job runs. A job that is refused at once is over before one can look, so the page counts.
COUNT_STARTS = """
const run = document.querySelector("#ov-run");
window.ovStarts = 0;
new MutationObserver(() => window.ovStarts++).observe(run, {attributes: true, attributeFilter: ["disabled"]});
"""


def wait_for(what, message):
    """Ask until there is an answer."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if answer := what():
            return answer
        time.sleep(0.1)
    pytest.fail(f'{message} did not come')


@pytest.fixture(scope='module')
def page(tmp_path_factory):
    """The page as a process of its own: its address, and the folder of its temporary files."""
    folder = tmp_path_factory.mktemp('page')
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    weights = ROOT / 'ovavss_mm/mini_world/ovavss_mini_hearing.safetensors'
    command = [sys.executable, ROOT / 'tools/web_demo.py', '--model', 'ovavss_mini_hearing']
    command += ['--weights', weights, '--device', 'cpu', '--port', str(port)]
    command += ['--max-seconds', '6', '--max-size', '2']
    env = dict(os.environ, TMPDIR=str(folder), OMP_NUM_THREADS='1')
    with (folder / 'log').open('w+') as log:
        process = subprocess.Popen(list(map(str, command)), cwd=folder, env=env, stdout=log, stderr=log)
        try:
            address = f'http://127.0.0.1:{port}'
            read = (folder / 'log').read_text
            wait_for(lambda: process.poll() is not None or address in read(), 'the page')
            assert process.poll() is None, read()
            yield address, folder
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(30)
        assert 'Traceback' not in read()
        assert not list(folder.glob('ovavss_web_*'))


@pytest.fixture
def browser(tmp_path):
    """A headless Chromium."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for argument in (
        *('--headless=new', '--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage'),
        *('--window-size=1280,1000', f'--user-data-dir={tmp_path / "profile"}'),
    ):
        options.add_argument(argument)
    options.set_capability('goog:loggingPrefs', {'performance': 'ALL'})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    yield driver
    driver.quit()


class Tab:
    """What a person does on the page."""

    def __init__(self, driver, address):
        self.driver = driver
        driver.get(address)
        wait_for(lambda: self.all('#ov-run'), 'the run button')

    def all(self, css):
        return self.driver.find_elements('css selector', css)

    def text(self, css):
        return self.driver.execute_script('return document.querySelector(arguments[0])?.innerText || ""', css)

    def label(self, video, names):
        """Upload a video, type names, press run, wait for the end; gives what the page says."""
        for button in self.all('#ov-video button[aria-label="Clear"]'):
            button.click()
        upload = wait_for(lambda: self.all('#ov-video input[type=file]'), 'the upload')[0]
        upload.send_keys(str(video))
        wait_for(lambda: self.all('#ov-video video'), 'the preview')
        box = self.all('#ov-names textarea')[0]
        box.clear()
        box.send_keys(names)
        run = self.all('#ov-run')[0]
        wait_for(run.is_enabled, 'the end of what ran before')
        self.driver.execute_script(COUNT_STARTS)
        run.click()
        wait_for(lambda: self.driver.execute_script('return window.ovStarts'), 'the start')
        wait_for(run.is_enabled, 'the end')
        return wait_for(lambda: self.text('#ov-status .ov-message').strip(), 'the message')

    def foreign_requests(self, address):
        """Addresses elsewhere that were asked for."""
        events = [json.loads(e['message'])['message'] for e in self.driver.get_log('performance')]
        urls = [e['params']['request']['url'] for e in events if e['method'].endswith('requestWillBeSent')]
        assert any(url.startswith(address) for url in urls)
        # what the browser asks of itself, such as its new tab, has other schemes
        return [url for url in urls if url.startswith(('http', 'ws')) and address not in url]


def files_of(folder):
    """Videos and results that the page holds."""
    return [p for p in folder.glob('ovavss_web_*/**/*') if p.suffix in ('.mp4', '.json', '.partial')]


def test_upload_names_overlay_timeline(page, browser, tmp_path):
    address, folder = page
    clip = tmp_path / 'clip.mp4'
    write_video(clip, list(video_scenes(4, seed=4, sounding=('red-square',))), fps=6, scale=1)
    (tmp_path / 'notes.mp4').write_text('no video')
    tab = Tab(browser, address)
    assert 'purple-triangle' in tab.all('#ov-names textarea')[0].get_attribute('value')

    message = tab.label(tmp_path / 'notes.mp4', 'red-square')
    assert message.startswith('notes.mp4 cannot be read as a video')
    assert not tab.all('#ov-result video') and not files_of(folder)

    names = 'red-square, <script>window.evil = 1</script>, ../../up'
    assert tab.label(clip, names) == 'clip.mp4: 4 s, 1 name heard.'
    chart = tab.text('#ov-timeline')
    assert all(name in chart for name in names.split(', '))
    assert tab.all('#ov-timeline .ov-strip b') and not tab.all('#ov-timeline script')
    assert browser.execute_script('return window.evil === undefined')
    script = 'const v = document.querySelector("#ov-result video"); return v ? v.duration : 0'
    assert abs(wait_for(lambda: browser.execute_script(script), 'the overlay') - 4) < 0.2
    script = 'const v = document.querySelector("#ov-result video"); v.muted = true; v.play(); '
    browser.execute_script(script)
    script = 'return document.querySelector("#ov-result video").webkitAudioDecodedByteCount'
    assert wait_for(lambda: browser.execute_script(script), 'the sound') > 0
    script = 'return document.querySelector(".ov-chart").style.getPropertyValue("--now")'
    wait_for(lambda: float(browser.execute_script(script) or 0), 'the line in the timeline')

    url = tab.all('#ov-result video')[0].get_attribute('src')
    overlay, _ = urllib.request.urlretrieve(url, tmp_path / 'overlay.mp4')
    with av.open(overlay) as file, av.open(str(clip)) as before:
        assert file.streams.audio and file.streams.video[0].frames == 24
        assert file.streams.audio[0].duration == pytest.approx(before.streams.audio[0].duration, rel=0.1)
    assert tab.foreign_requests(address) == []
    browser.get('about:blank')  # as if the tab were closed
    wait_for(lambda: not files_of(folder), 'the removal of its files')


def test_other_requests_are_turned_away(page):
    """Nothing outside the page's own files is handed out, and the headers say that no one else is to be asked."""
    address, folder = page
    with urllib.request.urlopen(address) as answer:
        policy = answer.headers['Content-Security-Policy']
    assert "default-src 'self'" in policy and 'http' not in policy
    (folder / 'secret.txt').write_text('secret')
    for path in ('/etc/passwd', folder / 'secret.txt', ROOT / 'setup.cfg'):
        with pytest.raises(urllib.error.HTTPError, match='40[34]'):
            urllib.request.urlopen(f'{address}/gradio_api/file={path}')
    # another address of this computer, at which a page for everybody would answer
    with pytest.raises(OSError):
        socket.create_connection(('127.0.0.2', int(address.rsplit(':', 1)[1])), 2).close()
