# SPDX-License-Identifier: Apache-2.0
"""Reads a model in a folder (docs/pretrained.md) without running anything that is in it.

Its JSON files are parsed as JSON and nothing else; they name parts that are registered, and files that are in the
folder or ship with the package, and can name nothing else.
"""

import re
from collections.abc import Iterator
from importlib import import_module
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any, NamedTuple

from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmseg.registry import TRANSFORMS

from ..datasets.files import is_plain, read_json
from ..datasets.transforms import LoadClipAudio
from ..datasets.vocabulary import BACKGROUND, Vocabulary, resolve_templates
from ..models.layers.clip import needs_hub
from ..utils.known_weights import PACKAGE_SCHEME, package_file
from ..utils.text import one_line, shorten

FORMAT = 1
LIBRARY = 'ovavss_mm'
CONFIG, WEIGHTS, VOCABULARY, PREPROCESSING = 'config.json', 'model.safetensors', 'vocabulary.json', 'preprocessing.json'
CARD = 'README.md'
SCHEME = 'model://'
KEYS = {
    CONFIG: {'format', 'library', 'library_version', 'name', 'model', 'linker', 'weights', 'weights_from', 'files'},
    VOCABULARY: {'open', 'names', 'base', 'prompt_templates'},
    PREPROCESSING: {'pipeline', 'data_preprocessor', 'sample_rates'},
}
# What further files of a folder may be: none of these is ever run when it is read.
ENDINGS = ('.json', '.txt', '.gz', '.model', '.safetensors', '.onnx', '.data')
HOSTS = ('mmengine', 'mmseg', 'mmdet')  # whose registries a name may point into: mmdet.DiceLoss
MAX_DEPTH = 40
_FILE = re.compile(r'[A-Za-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*)*')
_TYPE = re.compile(rf'(?:({"|".join(HOSTS)})\.)?([A-Za-z]\w*)', re.ASCII)
# Values of these are places of files, never tags or ids, which libraries would download.
_PLACES = ('checkpoint', 'tokenizer', 'bpe_path', 'backbone', 'class_weight')
# With these, libraries fetch or run what is not in the folder.
_REFUSED = set(
    'auto_map trust_remote_code attn_implementation quantization_config use_pretrained_backbone pretrained cache_dir '
    'timm_model_pretrained hf_model_pretrained hf_model_name hf_tokenizer_name tokenizer_name custom_imports '
    'load_from'.split()
)
# Parts of the hosts that download, or read configs or pickles, when they are built.
_FETCHING = set(
    'TIMMBackbone VPD BertModel ATSSVLFusionHead KnowledgeDistillationSingleStageDetector Detectron2Wrapper'.split()
)


class ModelFolder(NamedTuple):
    """What the JSON files of a folder say; weights are not read yet.

    Attributes:
        path (Path): of the folder, absolute.
        name (str): of the model, for people.
        cfg (Config): ``model``, ``linker`` and ``test_dataloader.dataset.pipeline``, as the inferencer takes them;
            files of the folder are absolute paths.
        weights (Path | None): the file of weights.
        vocabulary (Vocabulary | None): the names that are known of training, with ``base``; None if none are.
        is_open (bool): whether it takes any names.
        prompt_templates (tuple | None): of a model that reads names.
        weights_from (list[dict]): where weights come from that others have trained: ``file``, ``title``, ``licence``.
        files (list[str]): names of its further files.
    """

    path: Path
    name: str
    cfg: Config
    weights: Path | None
    vocabulary: Vocabulary | None
    is_open: bool
    prompt_templates: tuple[str, ...] | None
    weights_from: list[dict]
    files: list[str]

    @property
    def dataset_meta(self) -> dict[str, Any]:
        """The names as mmengine notes them in checkpoints."""
        names = self.vocabulary
        return {} if names is None else dict(classes=(BACKGROUND, *names), base_names=names.base)


def read_model_folder(folder: str | Path) -> ModelFolder:
    """Read and check the JSON files of a model in a folder.

    Args:
        folder (str | Path): that :func:`~ovavss_mm.apis.pretrained.write_model_folder` has written.

    Raises:
        FileNotFoundError: there is no such folder, or a file is missing in it.
        ValueError: it is of another kind or of a newer format, or its files say what they may not; the message names
            file and key.
    """
    folder = Path(folder).absolute()
    if not folder.is_dir():
        raise FileNotFoundError(f'there is no folder {folder}')
    config = _read_config(folder)
    vocabulary, preprocessing = (_read_table(folder, name) for name in (VOCABULARY, PREPROCESSING))
    files = _checked_files(folder, config['files'])
    where = folder / CONFIG
    model = _resolve(config['model'], folder, files, f'{where}: model')
    if not isinstance(model, dict) or 'data_preprocessor' in model:
        raise ValueError(f'{where}: model must be the table of a model, whose data_preprocessor is in {PREPROCESSING}')
    check_types(model, ('MODELS', 'TASK_UTILS'), f'{where}: model')
    linker = config['linker']
    check_types(_resolve(linker, folder, files, f'{where}: linker'), ('TASK_UTILS',), f'{where}: linker')
    pipeline, extra = _read_preprocessing(preprocessing, folder, files)
    if config['weights'] not in (None, WEIGHTS):
        raise ValueError(f'{where}: weights must be null or {WEIGHTS!r}, got {one_line(repr(config["weights"]))}')
    cfg = dict(model=dict(model, **extra), linker=linker, test_dataloader=dict(dataset=dict(pipeline=pipeline)))
    names, templates = _read_vocabulary(folder / VOCABULARY, vocabulary)
    return ModelFolder(
        folder,
        _checked_text(config['name'], f'{where}: name'),
        Config(cfg),
        config['weights'] and inner_file(folder, WEIGHTS),
        names,
        vocabulary['open'],
        templates,
        _checked_sources(config['weights_from'], where),
        config['files'],
    )


def needed_files(config: Path) -> list[str]:
    """The files that a ``config.json`` names, with those that every folder has.

    Raises:
        ValueError: it is none of a model folder.
    """
    told = _read_config(config.parent)
    names = told['files'] if isinstance(told['files'], list) else []
    return [
        CONFIG,
        VOCABULARY,
        PREPROCESSING,
        *([WEIGHTS] if told['weights'] else []),
        *(checked_name(name, config) for name in names),
    ]


# ---------------------------------------------------------------------- files
def inner_file(folder: Path, name: str) -> Path:
    """Path of a file or folder in a model folder.

    A link may lead to another place of the folder; in the cache of the hub, which is made of links, to its ``blobs``.

    Raises:
        FileNotFoundError: it is not there.
        ValueError: the name or a link leads out of the folder.
    """
    path = folder / checked_name(name, folder)
    if not path.exists():
        raise FileNotFoundError(f'{folder} has no {name}: it is incomplete, or no model folder of {LIBRARY}')
    roots = [folder.resolve()]
    if folder.parent.name == 'snapshots':
        roots.append(folder.parent.parent.resolve() / 'blobs')
    for part in (path, *path.rglob('*')):
        if not any(part.resolve().is_relative_to(root) for root in roots):
            raise ValueError(f'{part} leads out of the folder, to {part.resolve()}')
    return path


def checked_name(name: Any, where: object) -> str:
    """A relative name without dots that lead out of the folder, else ValueError; ``where`` is for the message."""
    if not isinstance(name, str) or len(name) > 500 or not _FILE.fullmatch(name):
        raise ValueError(
            f'{where}: {one_line(repr(name))} is no name of a file in the folder: letters, digits, "_", "-", "." and '
            '"/", relative to the folder'
        )
    return name


def _checked_files(folder: Path, names: Any) -> set[str]:
    """The further files of a folder, which must be there, and the folders that they are in."""
    where = f'{folder / CONFIG}: files'
    if not isinstance(names, list):
        raise ValueError(f'{where} must be a list, got {one_line(repr(names))}')
    for name in names:
        path = inner_file(folder, name)
        if not name.endswith(ENDINGS) or not path.is_file() or name in (*KEYS, WEIGHTS, CARD):
            raise ValueError(f'{where}: {name!r} is not allowed: further files end in {", ".join(ENDINGS)}')
        if name.endswith('config.json'):
            told = read_json(str(path))
            if not isinstance(told, dict) or _REFUSED & set(told):
                raise ValueError(f'{path}: {shorten(_REFUSED & set(told)) or "no table"} is not allowed there')
    return {str(part) for name in names for part in (Path(name), *Path(name).parents[:-1])}


# ---------------------------------------------------------------------- tables
def _read_config(folder: Path) -> dict[str, Any]:
    """``config.json`` of a model folder of a format that is known."""
    told, path = read_json(str(inner_file(folder, CONFIG))), folder / CONFIG
    if not isinstance(told, dict) or told.get('library') != LIBRARY:
        kind = told.get('model_type') or told.get('library') if isinstance(told, dict) else None
        seems = f' (it seems to be of {one_line(kind)!r})' if kind else ''
        raise ValueError(f'{folder} is no model folder of {LIBRARY}{seems}: its {CONFIG} has no such "library"')
    number = told.get('format')
    if type(number) is not int or number < 1:
        raise ValueError(f'{path}: format must be a whole number of at least 1, got {one_line(repr(number))}')
    if number > FORMAT:
        raise ValueError(
            f'{folder} has format {number}, written by {LIBRARY} {one_line(told.get("library_version"))}; this version '
            f'reads formats up to {FORMAT}: pip install --upgrade {LIBRARY}'
        )
    return _checked_keys(told, path)


def _read_table(folder: Path, name: str) -> dict[str, Any]:
    """Another JSON file of the folder."""
    return _checked_keys(read_json(str(inner_file(folder, name))), folder / name)


def _checked_keys(told: Any, path: Path) -> dict[str, Any]:
    """A table with exactly the keys of its file."""
    keys = KEYS[path.name]
    if not isinstance(told, dict) or set(told) != keys:
        differing = sorted(keys ^ set(told)) if isinstance(told, dict) else type(told).__name__
        raise ValueError(f'{path} must have the keys {", ".join(sorted(keys))}; it differs in {one_line(differing)}')
    return told


def _read_vocabulary(path: Path, told: dict[str, Any]) -> tuple[Vocabulary | None, tuple[str, ...] | None]:
    """The names of training and the prompt templates."""
    if type(told['open']) is not bool:
        raise ValueError(f'{path}: open must be true or false, got {one_line(repr(told["open"]))}')
    names, base, templates = told['names'], told['base'], told['prompt_templates']
    if names is None and base is not None or isinstance(templates, str):
        raise ValueError(f'{path}: base needs names, and prompt_templates must be a list or null')
    try:
        checked = None if names is None else Vocabulary(names, base=base)
        return checked, None if templates is None else resolve_templates(templates)
    except (TypeError, ValueError) as error:
        raise ValueError(f'{path}: {error}') from error


def _read_preprocessing(told: dict[str, Any], folder: Path, files: set[str]) -> tuple[list, dict[str, Any]]:
    """Steps of the pipeline, and the data preprocessor by its key in the model's config if there is one."""
    where, pipeline = folder / PREPROCESSING, told['pipeline']
    if not isinstance(pipeline, list) or not all(isinstance(step, dict) and 'type' in step for step in pipeline):
        raise ValueError(f'{where}: pipeline must be a list of tables with a type, got {one_line(repr(pipeline))}')
    pipeline = _resolve(pipeline, folder, files, f'{where}: pipeline')
    check_types(pipeline, ('TRANSFORMS',), f'{where}: pipeline')
    try:
        rates = sample_rates(pipeline)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f'{where}: pipeline: {error}') from error
    if rates != told['sample_rates']:
        raise ValueError(f'{where}: sample_rates are {rates} by the pipeline, got {one_line(told["sample_rates"])}')
    if told['data_preprocessor'] is None:
        return pipeline, {}
    preprocessor = _resolve(told['data_preprocessor'], folder, files, f'{where}: data_preprocessor')
    check_types(preprocessor, ('MODELS',), f'{where}: data_preprocessor')
    return pipeline, dict(data_preprocessor=preprocessor)


def sample_rates(pipeline: list[dict[str, Any]]) -> dict[str, int]:
    """Sample rate in Hz of each sound that a pipeline loads, by its key."""
    steps = [step for step in pipeline if find_part(step['type'], 'TRANSFORMS') is LoadClipAudio]
    built = [TRANSFORMS.build(dict(step)) for step in steps]
    return {step.key: step.front_end.sample_rate for step in built}


def _checked_text(text: Any, where: str) -> str:
    """A line of text, else ValueError."""
    if not isinstance(text, str) or not text or len(text) > 200 or not is_plain(text):
        raise ValueError(f'{where} must be a line of up to 200 letters, got {one_line(repr(text))}')
    return text


def _checked_sources(told: Any, where: Path) -> list[dict]:
    """Where weights come from."""
    rows = told if isinstance(told, list) else [None]
    for row in rows:
        if not isinstance(row, dict) or set(row) != {'file', 'title', 'licence'}:
            raise ValueError(f'{where}: weights_from must be a list of tables with file, title and licence')
        for key, text in row.items():
            _checked_text(text, f'{where}: weights_from.{key}')
    return rows


# ---------------------------------------------------------------------- what tables may say
def walk(tree: Any, where: str = 'config') -> Iterator[tuple[tuple, Any, Any, Any]]:
    """All (path, table or list, key, value) of nested tables and lists, outer ones first; ``where`` is for messages.

    Raises:
        ValueError: they are nested too deeply.
    """
    stack: list[tuple[tuple, Any]] = [((), tree)]
    while stack:
        path, node = stack.pop()
        if len(path) > MAX_DEPTH:
            raise ValueError(f'{where}: tables are nested more than {MAX_DEPTH} deep')
        items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
        for key, value in list(items):
            yield path, node, key, value
            stack.append(((*path, key), node[key]))


def _resolve(tree: Any, folder: Path, files: set[str], where: str) -> Any:
    """Check what a table says, and put paths where it names files of the folder."""
    for path, node, key, value in walk(tree, where):
        spot = f'{where}.{".".join(map(str, (*path, key)))}'
        if isinstance(key, str) and (key.startswith('_') or key in _REFUSED and value):
            raise ValueError(f'{spot} is not allowed in a model folder')
        if isinstance(value, str):
            node[key] = _resolve_text(value, key, folder, files, spot)
        if key == 'clip_model' and needs_hub(value):
            raise ValueError(f'{spot}: {one_line(value)!r} has parts on the hub, which a model folder cannot name')
        if key == 'init_cfg' and isinstance(value, dict) and value.get('type') != 'Pretrained':
            raise ValueError(f'{spot}: only type Pretrained is allowed')
    return tree


def _resolve_text(text: str, key: Any, folder: Path, files: set[str], spot: str) -> str:
    """A text that names no other place than one in the folder, as a path, or in the package."""
    if text.startswith(SCHEME):
        name = checked_name(text.removeprefix(SCHEME), spot)
        if name not in files:
            raise ValueError(f'{spot}: {name} is not among the files that {CONFIG} lists')
        return str(inner_file(folder, name))
    if text.startswith(PACKAGE_SCHEME):
        checked_name(text.removeprefix(PACKAGE_SCHEME), spot)
        if not Path(package_file(text)).exists():
            raise FileNotFoundError(f'{spot}: this version of the package has no {text}')
        return text
    if key in _PLACES or any(mark in text for mark in '/\\:'):
        raise ValueError(
            f'{spot}: {one_line(repr(text))} is no file of the folder: those are named {SCHEME}NAME, and those of the '
            f'package {PACKAGE_SCHEME}NAME'
        )
    return text


def check_types(tree: Any, kinds: tuple[str, ...], where: str) -> None:
    """Check that each ``type`` is the plain name of a part of the hosts or of this package, or of one of yours.

    mmengine imports what a name spells if no part has it; so such names never reach it.

    Args:
        tree (Any): tables and lists.
        kinds (tuple[str, ...]): names of the registries in which the parts are; it is asked in the first one.
        where (str): for the message.

    Raises:
        ValueError: another name.
    """
    for path, _, key, value in walk(tree):
        if key != 'type' or 'init_cfg' in path[-1:]:
            continue
        found = next((kind for kind in kinds if find_part(value, kind) is not None), None)
        lineage = getattr(found and find_part(value, found), '__mro__', ())
        if _FETCHING & {part.__name__ for part in lineage}:
            raise ValueError(
                f'{where}: {value} is not allowed in a model folder: it reads files or downloads by itself'
            )
        # in the first registry it is not, so mmengine might import a module of that name
        importable = found != kinds[0] and found and PathFinder.find_spec(value.rpartition('.')[2]) is not None
        if found is None or importable:
            raise ValueError(
                f'{where}: {".".join(map(str, (*path, key)))} {one_line(repr(value))} is no registered part: plain '
                f'names are, and those of {", ".join(HOSTS)} with that before them; import the package of your own '
                'parts before you load the model'
            )


def find_part(name: Any, kind: str) -> Any:
    """The part of a name in a registry, such as 'MODELS', and in those above it; None: there is none."""
    match = _TYPE.fullmatch(name) if isinstance(name, str) else None
    if match is None:
        return None
    current = DefaultScope.get_current_instance()
    registry = getattr(import_module(f'{match[1] or (current.scope_name if current else "mmseg")}.registry'), kind)
    while registry is not None:
        registry.import_from_location()
        if match[2] in registry.module_dict:
            return registry.module_dict[match[2]]
        registry = None if match[1] else registry.parent
    return None
