# SPDX-License-Identifier: Apache-2.0
"""Segment the sounding objects of videos, with class names you choose.

For each VIDEO there appear in the output folder
  vis/NAME.mp4        the video with its sound, the predicted masks and their names
  pred/NAME.json      when each class and each object sounds, how large it is, and the model's scores;
                      when nothing visible sounds
  pred/NAME/*.png     a label map for each labelled second, named by milliseconds:
                      0 background, 1 the first of the names, 2 the second ...
  export/FORMAT/      with --export: the same for other tools, docs/outputs.md says what each keeps
Any length, frame rate and size will do; a long video is labelled as it is read. Of several videos
there are summary.json and summary.csv at the end: which name sounds how long, and how many objects.
"""

import argparse
import os
import sys
import warnings
from collections.abc import Iterable

EXAMPLES = """examples:
  which of two things sounds, and where it is in the picture
    python tools/infer.py clip.mp4 --classes violin dog --out-dir out

  other words for a name, prompts of your own, four labelled frames a second
    python tools/infer.py clip.mp4 --classes dog "baby crying" --synonyms dog=puppy,hound \\
        --prompt-templates "a photo of a {}." "the sound of a {}." --fps 4 --out-dir out

  many videos, names from a file (one a line); a folder of pictures, one a second, with a wav in it
    python tools/infer.py videos/*.mp4 frames_folder --classes-file names.txt --out-dir out

  thousands of videos by two processes (or --launcher slurm); the same command once more goes on
    torchrun --standalone --nproc_per_node=2 tools/infer.py videos --classes-file names.txt --out-dir out --resume

  the stretches in which a dog is heard, with a second before and after, as videos of their own
    python tools/infer.py videos --classes dog violin --clips dog --pad 1 --out-dir out

  in which of the labelled videos a violin is heard for two seconds or more
    python tools/infer.py out --query violin --min-seconds 2

  only what is clearly heard
    python tools/infer.py clip.mp4 --classes dog --min-sound-score 0.8 --out-dir out

  files for other tools: masks to correct in CVAT, a data set in COCO's form, subtitles
    python tools/infer.py clip.mp4 --classes violin dog --export cvat coco srt --out-dir out

  a video whose sound is in another file
    python tools/infer.py clip.mp4 --sound clip.wav --classes violin --out-dir out

  a model in a folder, which has weights and all else (docs/pretrained.md)
    python tools/infer.py clip.mp4 --model FOLDER --classes dog --out-dir out

  a model of your own; a try without any download: a clip of the mini world, and the model of `make demo`
    python tools/infer.py clip.mp4 --classes dog --model CONFIG --weights CHECKPOINT --out-dir out
    python tools/dataset_converters/mini_world.py --video mini.mp4
    python tools/infer.py mini.mp4 --classes red-star blue-disc --model ovavss_mini_hearing \\
        --weights work_dirs/demo/iter_1200.pth --out-dir out
"""


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line, of the process by default."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    videos = 'video file, folder of videos, folder of pictures, or a pattern such as "videos/*.mp4"'
    add('videos', nargs='+', metavar='VIDEO', help=videos)
    names = parser.add_argument_group('names').add_mutually_exclusive_group()
    looked_for = 'names to look for; commas separate names too (a closed-set model: default all that it knows)'
    names.add_argument('--classes', nargs='+', metavar='NAME', help=looked_for)
    names.add_argument('--classes-file', metavar='FILE', help='names to look for, one a line, or as a JSON list')
    synonyms = 'other words for a name: they count as the name'
    add('--synonyms', nargs='+', default=[], metavar='NAME=WORD,WORD', help=synonyms)
    templates = "prompts with {} for the name, or a set of mmseg (vild, imagenet); default: the model's"
    add('--prompt-templates', nargs='+', metavar='PROMPT', help=templates)
    out = 'where results go; they replace those of an earlier VIDEO of the same name, all together'
    add('--out-dir', metavar='DIR', help=out)
    export = (
        'also write export/FORMAT/NAME for other tools: coco, youtube-vis, mots, cvat, label-studio and datumaro have '
        'the masks, vtt, srt, rttm and audacity the times'
    )
    add('--export', nargs='+', default=[], metavar='FORMAT', help=export)
    add('--resume', action='store_true', help='leave out what is complete for the same names, model and settings')
    words = 'what starts several processes, which share the videos out (default: pytorch under torchrun, else none)'
    add('--launcher', choices=('none', 'pytorch', 'slurm', 'mpi'), help=words)
    cut = 'cut the stretches in which these names sound out of the videos, into out/clips'
    add('--clips', nargs='+', default=(), metavar='NAME', help=cut)
    pad = 'seconds before and after a stretch; a key frame so near to it allows a cut without encoding (default: 0)'
    add('--pad', type=float, default=0.0, metavar='S', help=pad)
    query = 'label nothing: list the videos in which these names sound, from results; VIDEO is a folder of results'
    add('--query', nargs='+', metavar='NAME', help=query)
    add('--min-seconds', type=float, default=0.0, metavar='S', help='with --query: how long they sound at least')
    add('--sound', metavar='FILE', help='the sound of the video, if it has a file of its own')
    track = 'which of several sound tracks of a video, from 1 (default: the one that the file marks as default)'
    add('--audio-track', type=int, metavar='N', help=track)
    model = parser.add_argument_group(
        'model',
        'without these: the released one in data/weights, else that of `make demo`, else the mini model of the package',
    )
    config = 'config: path, or bare name (ovavss_r50_release); or a model in a folder, or its id on the hub: org/name'
    model.add_argument('--model', metavar='MODEL', help=config)
    model.add_argument(
        '--weights', metavar='CHECKPOINT', help='checkpoint of a config (a folder has its own, sam4avs_mini none)'
    )
    model.add_argument('--device', help='such as cpu or cuda:0 (default: a GPU if there is one)')
    add('--fps', type=int, default=1, help='labelled frames a second (default: 1)')
    add('--overlap', type=int, help='seconds that windows share and blend (default: 1)')
    batch = 'windows at a time, with --fps above 1 (default: 1)'
    add('--batch-size', type=int, default=1, help=batch)
    score = "least score of what is labelled, 0 to 1 (default: the model's)"
    add('--score-thr', type=float, help=score)
    sound = (
        'least sound score of what is labelled, 0 to 1: a higher value labels less, docs/hearing.md has a curve '
        "(default: the model's, 0.5 for OV-AVSS as trained here)"
    )
    add('--min-sound-score', type=float, metavar='S', help=sound)
    add('--opacity', type=float, default=0.6, help='of the colours, 0 to 1 (default: 0.6)')
    add('--show', action='store_true', help='show labelled frames in a window')
    add('--no-save-vis', action='store_true', help='write no mp4')
    add('--no-save-pred', action='store_true', help='write no PNG and JSON')
    args = parser.parse_args(argv)
    if args.weights is not None and args.model is None:
        parser.error('--weights goes with --model')
    if args.launcher is None:
        args.launcher = 'pytorch' if 'TORCHELASTIC_RUN_ID' in os.environ else 'none'
    if args.pad and not args.clips:
        parser.error('--pad goes with --clips')
    if args.min_seconds and not args.query:
        parser.error('--min-seconds goes with --query')
    if args.sound and len(args.videos) != 1:
        parser.error('--sound goes with one VIDEO')
    return args


def main(argv: list[str] | None = None) -> None:
    """Segment the videos and print what was found."""
    args = parse_args(argv)
    if args.query:
        return print_found(args.videos, args.query, args.min_seconds)
    os.environ.setdefault('GOMP_SPINCOUNT', '10000')
    # Imported here, as torch takes seconds.
    from ovavss_mm.compat import import_quietly

    apis = import_quietly('ovavss_mm.apis')
    loading = import_quietly('ovavss_mm.apis.loading')
    runner = import_quietly('ovavss_mm.engine.runner')
    warnings.showwarning = lambda message, *_, **__: print(f'note: {printable(str(message))}', file=sys.stderr)
    try:
        if args.launcher != 'none':
            gpu = loading.choose_device(args.device) != 'cpu'
            runner.join_group(args.launcher, gpu, timeout=30 * 86_400)  # shares may last
        options = call_options(args)
        if args.model is None:
            args.model, args.weights = loading.find_default_model()
            print(f'model: {args.model}, weights: {args.weights}')
        inferencer = apis.AVSegInferencer(args.model, args.weights, args.device)
        count, failed = report_all(prediction for prediction, _ in inferencer.each(**options))
        runner.leave_group()
    except (OSError, ValueError) as error:
        sys.exit(f'error: {printable(str(error))}')
    except KeyboardInterrupt:
        sys.exit('interrupted: of the video that was being labelled nothing is kept; --resume goes on')
    if len(failed) == count == 1:
        sys.exit(f'error: {printable(failed[0]["error"])}')
    if failed:
        sys.exit(f'error: {len(failed)} of {count} inputs could not be labelled')


def call_options(args: argparse.Namespace) -> dict:
    """Keyword arguments for the inferencer.

    Raises:
        OSError: the file of names cannot be read.
        ValueError: a synonym without a name, or names that are no list.
    """
    from ovavss_mm.datasets.vocabulary import read_names, split_names

    classes = read_names(args.classes_file) if args.classes_file else args.classes and split_names(args.classes)
    synonyms: dict[str, list[str]] = {}
    for entry in args.synonyms:
        name, equals, words = entry.partition('=')
        if not equals:
            raise ValueError(f'--synonyms takes NAME=WORD,WORD, got {entry[:100]!r}')
        synonyms.setdefault(name, []).extend(words.split(','))
    templates = args.prompt_templates
    if templates and len(templates) == 1 and '{}' not in templates[0]:
        templates = templates[0]
    keys = ('out_dir', 'audio_track', 'fps', 'overlap', 'batch_size', 'score_thr', 'min_sound_score', 'opacity', 'show')
    keys += ('export', 'pad', 'resume')
    return dict(
        inputs=dict(video=args.videos[0], sound=args.sound) if args.sound else args.videos,
        classes=classes,
        synonyms=synonyms,
        prompt_templates=templates,
        on_error='skip',
        clips=split_names(args.clips),
        **{key: getattr(args, key) for key in (*keys, 'no_save_vis', 'no_save_pred')},
    )


def print_found(folders: list[str], names: list[str], min_seconds: float) -> None:
    """Print the labelled videos in which names sound, those in which they sound longest first."""
    from ovavss_mm.compat import import_quietly

    results = import_quietly('ovavss_mm.apis.video.results')
    from ovavss_mm.datasets.vocabulary import split_names

    try:
        found = results.find_videos(folders, split_names(names), min_seconds)
    except (OSError, ValueError) as error:
        sys.exit(f'error: {printable(str(error))}')
    for video, name, heard in found:
        say(f'{video}: {name} {heard["seconds"]:g} s ({_spans(heard)})')
    if not found:
        print('none')


def report_all(predictions: Iterable[dict]) -> tuple[int, list[dict]]:
    """Print what was found in each video; their number, and those that could not be labelled.

    The error of a single one is not printed.
    """
    count, failed = 0, []
    for count, prediction in enumerate(predictions, 1):
        if count == 2 and failed:
            report(failed[0])
        if 'error' in prediction:
            failed.append(prediction)
        if count > 1 or not failed:
            report(prediction)
    return count, failed


def report(prediction: dict) -> None:
    """Print what was found in a video."""
    from ovavss_mm.apis.video.timeline import NOTHING_SOUNDS, listed_objects

    if 'names' not in prediction:
        said = prediction.get('busy') or f'error: {prediction["error"]}'
        return say(f'{prediction["video"]}: {said}')
    say(f'{prediction["video"]}: {prediction["duration"]:g} s')
    for name, heard in prediction['names'].items():
        say(
            f'  {name}: {heard["seconds"]:g} s ({_spans(heard)}), {heard["area"]:.1%} of the picture, '
            f'sound score {heard["sound"]:.2f}, class score {heard["score"]:.2f}'
        )
        objects, more = listed_objects(prediction, name)
        for found in objects:
            say(f'    {name} {found["number"]}: {found["seconds"]:g} s ({_spans(found)})')
        if more:
            say(f'    and {more} more')
    if not prediction['names']:
        print('  none of the names is heard')
    if (silent := prediction['silent'])['intervals']:
        print(f'  {NOTHING_SOUNDS}: {silent["seconds"]:g} s ({_spans(silent)})')
    for path in prediction.get('files', {}).values():
        say(f'  {path}')


def _spans(heard: dict) -> str:
    """The first intervals of a name, an object or silence."""
    spans = ', '.join(f'{start:g}-{end:g}' for start, end in heard['intervals'][:8])
    return spans + (', ...' if len(heard['intervals']) > 8 else '')


def say(text: str) -> None:
    """Print a line in characters that the terminal knows."""
    encoding = sys.stdout.encoding or 'utf-8'
    print(printable(text, '').encode(encoding, 'backslashreplace').decode(encoding))


def printable(text: str, kept: str = '\n') -> str:
    """A text with its control characters escaped, which names of files may have; ``kept`` stays."""
    escaped = (c.encode('unicode_escape').decode() for c in text)
    return ''.join(c if c.isprintable() or c in kept else e for c, e in zip(text, escaped, strict=True))


if __name__ == '__main__':
    main()
