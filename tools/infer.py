# SPDX-License-Identifier: Apache-2.0
"""Segment the sounding objects of videos, with class names you choose.

For each VIDEO there appear in the output folder
  vis/NAME.mp4        the video with its sound, the predicted masks and their names
  pred/NAME.json      when each class and each object sounds, how large it is, and the model's scores;
                      when nothing visible sounds
  pred/NAME/*.png     a label map for each labelled second, named by milliseconds:
                      0 background, 1 the first of the names, 2 the second ...
  export/FORMAT/      with --export: the same for other tools, docs/outputs.md says what each keeps
Any length, frame rate and size will do; a long video is labelled as it is read.
"""

import argparse
import os
import sys
import warnings

EXAMPLES = """examples:
  which of two things sounds, and where it is in the picture
    python tools/infer.py clip.mp4 --classes violin dog --out-dir out

  other words for a name, prompts of your own, four labelled frames a second
    python tools/infer.py clip.mp4 --classes dog "baby crying" --synonyms dog=puppy,hound \\
        --prompt-templates "a photo of a {}." "the sound of a {}." --fps 4 --out-dir out

  many videos, names from a file (one a line); a folder of pictures, one a second, with a wav in it
    python tools/infer.py videos/*.mp4 frames_folder --classes-file names.txt --out-dir out

  only what is clearly heard
    python tools/infer.py clip.mp4 --classes dog --min-sound-score 0.8 --out-dir out

  files for other tools: masks to correct in CVAT, a data set in COCO's form, subtitles
    python tools/infer.py clip.mp4 --classes violin dog --export cvat coco srt --out-dir out

  a video whose sound is in another file
    python tools/infer.py clip.mp4 --sound clip.wav --classes violin --out-dir out

  a model of your own; a try without any download: a clip of the mini world, and the model of `make demo`
    python tools/infer.py clip.mp4 --classes dog --model CONFIG --weights CHECKPOINT --out-dir out
    python tools/dataset_converters/mini_world.py --video mini.mp4
    python tools/infer.py mini.mp4 --classes red-star blue-disc --model ovavss_mini \\
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
    add('--sound', metavar='FILE', help='the sound of the video, if it has a file of its own')
    track = 'which of several sound tracks of a video, from 1 (default: the one that the file marks as default)'
    add('--audio-track', type=int, metavar='N', help=track)
    model = parser.add_argument_group(
        'model',
        'without these: the released one in data/weights, else that of `make demo`, else the mini model of the package',
    )
    config = 'config: path, or bare name (ovavss_r50_release)'
    model.add_argument('--model', metavar='CONFIG', help=config)
    model.add_argument(
        '--weights', metavar='CHECKPOINT', help='its checkpoint (sam4avs_mini: none, nothing is trained)'
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
    if args.sound and len(args.videos) != 1:
        parser.error('--sound goes with one VIDEO')
    return args


def main(argv: list[str] | None = None) -> None:
    """Segment the videos and print what was found."""
    args = parse_args(argv)
    os.environ.setdefault('GOMP_SPINCOUNT', '10000')
    # Imported here, as torch takes seconds.
    from ovavss_mm.compat import import_quietly

    apis = import_quietly('ovavss_mm.apis')
    loading = import_quietly('ovavss_mm.apis.loading')
    warnings.showwarning = lambda message, *_, **__: print(f'note: {printable(str(message))}', file=sys.stderr)
    try:
        options = call_options(args)
        if args.model is None:
            args.model, args.weights = loading.find_default_model()
            print(f'model: {args.model}, weights: {args.weights}')
        inferencer = apis.AVSegInferencer(args.model, args.weights, args.device)
        results = inferencer(**options)
    except (OSError, ValueError) as error:
        sys.exit(f'error: {printable(str(error))}')
    except KeyboardInterrupt:
        sys.exit('interrupted: of the video that was being labelled nothing is kept')
    predictions = results['predictions']
    if len(predictions) == 1 and 'error' in predictions[0]:
        sys.exit(f'error: {printable(predictions[0]["error"])}')
    if failed := [report(prediction) for prediction in predictions].count(False):
        sys.exit(f'error: {failed} of {len(predictions)} inputs could not be labelled')


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
    keys = (
        'out_dir',
        'export',
        'audio_track',
        'fps',
        'overlap',
        'batch_size',
        'score_thr',
        'min_sound_score',
        'opacity',
        'show',
    )
    return dict(
        inputs=dict(video=args.videos[0], sound=args.sound) if args.sound else args.videos,
        classes=classes,
        synonyms=synonyms,
        prompt_templates=templates,
        on_error='skip',
        **{key: getattr(args, key) for key in (*keys, 'no_save_vis', 'no_save_pred')},
    )


def report(prediction: dict) -> bool:
    """Print what was found in a video; False if it could not be labelled."""
    from ovavss_mm.apis.video.timeline import NOTHING_SOUNDS, listed_objects

    if 'error' in prediction:
        say(f'{prediction["video"]}: error: {prediction["error"]}')
        return False
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
    return True


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
