"""The archives that `torch.export.load` reads, checked before it reads them.

PyTorch says of such archives that they must be trusted: on the way to a program it unpickles what
the archive says is pickled, evaluates the sizes of tensors as Python, runs the archive's guards as
Python, imports the modules of enums and loads libraries that are in the archive. A program needs
none of that, so an archive is taken apart here, each part is held to what it may be, and PyTorch is
given an archive that is put together of these parts anew. Guards, which PyTorch writes into every
program of several inputs, compare their sizes; they are left out, for a batch is held to the
signature instead.
"""

import io
import json
import re
import zipfile
from collections.abc import Iterator
from typing import Any

from registry.programs.errors import ProgramError

_ROOT = "archive/"
_MODEL = "models/model.json"
_WEIGHTS = "data/weights/model_weights_config.json"
_CONSTANTS = "data/constants/model_constants_config.json"
_EXAMPLES = "data/sample_inputs/model.pt"
_CONSTANT = re.compile(r"data/constants/(tensor_[0-9]{1,6})")

# What there is besides: two bytes to forty each.
_SMALL = frozenset(
    ["archive_format", "archive_version", ".data/version", "byteorder", ".data/serialization_id"]
)
_MAX_SMALL_BYTES = 100

# Sizes: sums and products of integers and symbols, by the names that PyTorch prints.
_EXPRESSION = re.compile(
    r"(?:[0-9]+|[su][0-9]+|[-+*/(), ]|"
    + "|".join(
        [
            "Symbol",
            "'[su][0-9]+'",
            "positive=True",
            "integer=True",
            "nonnegative=True",
            "Integer",
            "Add",
            "Mul",
            "Max",
            "Min",
            "FloorDiv",
            "CeilDiv",
            "Mod",
            "PythonMod",
        ]
    )
    + r")*"
)
_TARGET = re.compile(
    r"torch\.ops\.aten\.[a-z0-9_]+\.[A-Za-z0-9_]+"
    r"|_operator\.(?:add|sub|mul|floordiv|mod|neg|getitem|eq|ne|lt|le|gt|ge)"
)
# Of ATen's operators those that use files.
_FILE_OPERATORS = re.compile(r"torch\.ops\.aten\.(?:from_file|save)\b")
_CONTAINERS = frozenset([None, "builtins.dict", "builtins.list", "builtins.tuple"])

# Deeper than any program is; Python's own limit is a thousand calls.
_MAX_DEPTH = 60


def checked_archive(content: bytes) -> bytes:
    """Returns an archive of the same program, made of parts that were each checked.

    Raises:
        ProgramError: It is no such archive, or holds what would be unpickled, imported or run.
    """
    parts = _parts(content)
    for name in (_MODEL, _WEIGHTS, _CONSTANTS, _EXAMPLES, *_SMALL):
        if name not in parts:
            raise ProgramError(f"the torch_export program lacks {name}: it is damaged")
    if parts["byteorder"] != b"little":
        raise _refused("the bytes of its numbers are not in little-endian order")
    if parts[_EXAMPLES]:
        raise _refused(f"{_EXAMPLES} holds example inputs, which would be unpickled")
    if _json(parts, _WEIGHTS) != {"config": {}}:
        raise _refused(f"{_WEIGHTS} lists weights, which may be pickled")
    _check_constants(parts)
    model = _json(parts, _MODEL)
    _check_model(model)
    if model.get("guards_code"):
        parts[_MODEL] = json.dumps(model | {"guards_code": []}).encode()
    return _assembled(parts)


def _parts(content: bytes) -> dict[str, bytes]:
    """Returns what is in an archive, by name, if it is only what may be there."""
    parts: dict[str, bytes] = {}
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            for entry in archive.infolist():
                name = entry.filename.removeprefix(_ROOT)
                if not entry.filename.startswith(_ROOT) or name in parts or not _known(name):
                    raise _refused(f"it holds {entry.filename!r:.80}")
                # What is not compressed is no larger than the archive.
                if entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1:
                    raise _refused(f"{name} is compressed or encrypted")
                parts[name] = archive.read(entry)
                if name in _SMALL and len(parts[name]) > _MAX_SMALL_BYTES:
                    raise _refused(f"{name} takes {len(parts[name])} bytes")
    except (zipfile.BadZipFile, EOFError, NotImplementedError, ValueError) as error:
        raise ProgramError(f"the torch_export program is damaged: {error}") from error
    return parts


def _known(name: str) -> bool:
    fixed = {_MODEL, _WEIGHTS, _CONSTANTS, _EXAMPLES, *_SMALL}
    return name in fixed or _CONSTANT.fullmatch(name) is not None


def _json(parts: dict[str, bytes], name: str) -> Any:
    try:
        return json.loads(parts[name])
    except (ValueError, RecursionError) as error:
        raise ProgramError(f"the torch_export program is damaged: {name}: {error}") from error


def _check_constants(parts: dict[str, bytes]) -> None:
    listed = _json(parts, _CONSTANTS)
    if not isinstance(listed, dict) or not isinstance(listed.get("config"), dict):
        raise ProgramError(f"the torch_export program is damaged: {_CONSTANTS}")
    for name, entry in listed["config"].items():
        place = entry.get("path_name") if isinstance(entry, dict) else None
        if not isinstance(place, str) or f"data/constants/{place}" not in parts:
            raise _refused(f"constant {name!r:.80} is not in the archive")
        if entry.get("use_pickle") is not False or not entry.get("tensor_meta"):
            raise _refused(f"constant {name!r:.80} would be unpickled")


def _check_model(model: Any) -> None:
    if not isinstance(model, dict):
        raise ProgramError(f"the torch_export program is damaged: {_MODEL}")
    for key, value in _walk(model):
        if key == "expr_str" and not (isinstance(value, str) and _EXPRESSION.fullmatch(value)):
            raise _refused(f"a size is {value!r:.80}, which would be evaluated as Python")
        if key == "target" and not _is_operator(value):
            raise _refused(f"it calls {value!r:.80}")
        if key in ("in_spec", "out_spec"):
            _check_containers(value)
        if key == "custom_obj_values" and value:
            raise _refused("it has objects of classes of its own")
        if key in ("as_custom_obj", "as_graph", "as_operator"):
            raise _refused(f"an argument is {key}")


def _is_operator(target: Any) -> bool:
    if not isinstance(target, str) or _FILE_OPERATORS.match(target):
        return False
    return _TARGET.fullmatch(target) is not None


def _check_containers(spec: Any) -> None:
    """Checks a tree of containers, which is JSON in a string; `None` where there is none."""
    if spec is None or spec == "":
        return
    try:
        tree = json.loads(spec)
    except (TypeError, ValueError, RecursionError) as error:
        raise ProgramError("the torch_export program is damaged: its containers") from error
    if "__enum__" in spec:
        raise _refused("a key is an enum, whose module would be imported")
    for key, value in _walk(tree):
        if key == "type" and value not in _CONTAINERS:
            raise _refused(f"it takes or gives a {value!r:.80}")


def _walk(value: Any) -> Iterator[tuple[str, Any]]:
    """Yields every key of every object in a tree of JSON, with its value."""
    waiting = [(value, 0)]
    while waiting:
        value, depth = waiting.pop()
        if depth > _MAX_DEPTH:
            raise _refused("its graph is nested too deeply")
        if isinstance(value, dict):
            yield from value.items()
            waiting += [(inner, depth + 1) for inner in value.values()]
        elif isinstance(value, list):
            waiting += [(inner, depth + 1) for inner in value]


def _assembled(parts: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, content in parts.items():
            archive.writestr(_ROOT + name, content)
    return file.getvalue()


def _refused(reason: str) -> ProgramError:
    return ProgramError(f"the torch_export program is refused: {reason}")
