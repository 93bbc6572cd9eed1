"""Answers as people read them, as JSON, and as a file of arrays."""

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Group, RenderableType
from rich.text import Text

from base.files import replacing
from base.program import from_user
from base.text import printable
from registry.commands.output import table
from serving.client.results import InferResult
from serving.core.signature import DTYPES
from serving.protocols.elements import BYTES

_DATATYPES = {dtype: datatype for datatype, dtype in DTYPES.items()}

# Of an array, in a terminal.
_SHOWN_ELEMENTS = 100


def facts_of(result: InferResult) -> dict[str, Any]:
    """An answer as the protocol's REST form has it; what is not finite is null."""
    outputs = [
        {
            "name": name,
            "datatype": _datatype(array),
            "shape": list(array.shape),
            "data": _listed(array.ravel()),
        }
        for name, array in result.outputs.items()
    ]
    facts = {"model_name": result.model, "model_version": result.version, "outputs": outputs}
    return facts | ({"id": result.id} if result.id else {})


def drawn_result(result: InferResult) -> RenderableType:
    """Each output, its elements shortened, and of logits the classes."""
    parts: list[RenderableType] = []
    for name, array in result.outputs.items():
        lines = [f"{printable(name)} {_datatype(array)} {list(array.shape)}"]
        if array.dtype.kind == "O":
            array = np.array([_text(string) for string in array.ravel()], object).reshape(
                array.shape
            )
        lines.append(
            np.array2string(array, precision=3, suppress_small=True, threshold=_SHOWN_ELEMENTS)
        )
        if name == "logits" and array.ndim and array.shape[-1]:
            lines.append(f"classes {' '.join(map(str, array.argmax(axis=-1).ravel()))}")
        parts.append(Text("\n".join(lines)))
    return Group(*parts)


def drawn_classes(result: InferResult) -> RenderableType:
    """The largest values of each example, by the extension for classification.

    Raises:
        ValueError: an output has another form than "value:index" or "value:index:label".
    """
    rows = []
    for name, array in result.outputs.items():
        for example, strings in enumerate(array.reshape(len(array), -1) if array.ndim else []):
            rows += [[name, str(example), *_class(name, string)] for string in strings]
    return table(["output", "example", "class", "index", "value"], rows)


def drawn_predictions(reply: Mapping[str, Any]) -> RenderableType:
    """A reply of `POST /predict`."""
    if "predictions" not in reply:
        return Text(printable(str(reply.get("outputs", ""))))
    rows = [
        [str(example), str(name), f"{probability:.4f}"]
        for example, prediction in enumerate(reply["predictions"])
        for name, probability in zip(
            prediction["classes"], prediction["probabilities"], strict=True
        )
    ]
    title = Text(printable(f"{reply.get('model')} {reply.get('version')}"))
    return Group(title, table(["example", "class", "probability"], rows))


def save_arrays(path: str, outputs: Mapping[str, np.ndarray]) -> None:
    """Writes a .npz file that needs no pickle.

    BF16 becomes float32, which holds each of its values, and BYTES numpy's own byte strings.

    Raises:
        ValueError: it cannot be written, or a byte string ends with a zero byte, which numpy drops.
    """
    try:
        with replacing(from_user(Path(path))) as temporary, zipfile.ZipFile(temporary, "w") as file:
            for name, array in outputs.items():
                with file.open(f"{name}.npy", "w", force_zip64=True) as member:
                    np.lib.format.write_array(member, _savable(name, array), allow_pickle=False)
    except OSError as error:
        raise ValueError(f"cannot write {path}: {error.strerror}") from error


def _savable(name: str, array: np.ndarray) -> np.ndarray:
    if array.dtype == DTYPES["BF16"]:
        return array.astype(np.float32)
    if array.dtype.kind != "O":
        return array
    if any(string.endswith(b"\0") for string in array.ravel()):
        raise ValueError(f"output {name!r} has a string that ends with a zero byte; use --json")
    return array.astype(np.bytes_)


def _datatype(array: np.ndarray) -> str:
    return _DATATYPES.get(array.dtype, BYTES)


def _listed(array: np.ndarray) -> list[Any]:
    if array.dtype.kind == "O":
        return [_text(string) for string in array]
    if array.dtype.kind in "biu":
        return array.tolist()
    wide = array.astype(np.float64)
    return [value if np.isfinite(value) else None for value in wide.tolist()]


def _texts(strings: np.ndarray) -> np.ndarray:
    texts = np.empty(strings.shape, object)
    texts[...] = np.vectorize(_text, otypes=[object])(strings) if strings.size else strings
    return texts


def _text(string: bytes) -> str:
    return string.decode("utf-8", "backslashreplace")


def _class(output: str, string: bytes) -> tuple[str, str, str]:
    value, _, rest = _text(string).partition(":")
    index, _, label = rest.partition(":")
    if not index.isdecimal():
        raise ValueError(f"output {output!r} has no classes but {_text(string)!r}")
    return label or index, index, value
