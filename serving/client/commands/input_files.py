"""What is sent, from a file in one of several forms, which is told from its first bytes."""

import io
import json
import sys
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import numpy as np

from base.program import from_user

STDIN = "-"

_NPY = b"\x93NUMPY"
_NPZ = b"PK"
_PNG = b"\x89PNG\r\n\x1a\n"
_JPEG = b"\xff\xd8\xff"


@dataclass(frozen=True)
class Image:
    """The bytes of a PNG or JPEG file."""

    content: bytes


@dataclass(frozen=True)
class Array:
    """A lone array, for a model with one input."""

    array: np.ndarray


@dataclass(frozen=True)
class Arrays:
    """Arrays by input name."""

    arrays: Mapping[str, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True)
class Document:
    """What JSON holds; it needs the model's signature to become arrays."""

    value: Any


Given = Image | Array | Arrays | Document


def read_input(path: str) -> Given:
    """Reads a file, or standard input for "-".

    Raises:
        ValueError: it cannot be read, or is none of .npy, .npz, PNG, JPEG and JSON.
    """
    name = "standard input" if path == STDIN else path
    try:
        if path == STDIN:
            return _read(io.BytesIO(sys.stdin.buffer.read()))
        with from_user(path).open("rb") as stream:
            return _read(stream)
    except Exception as error:  # numpy states no set of errors, and a header is an expression
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        message = f"cannot read {name} as .npy, .npz, PNG, JPEG or JSON: {reason}"
        raise ValueError(message.replace("\n", " ")) from error


def _read(stream: BinaryIO) -> Given:
    head = stream.read(len(_PNG))
    stream.seek(0)
    if head.startswith((_PNG, _JPEG)):
        return Image(stream.read())
    if head.startswith(_NPY):
        return Array(np.lib.format.read_array(stream, allow_pickle=False))
    if head.startswith(_NPZ):
        return Arrays(_archive(stream))
    return Document(json.loads(stream.read()))


def _archive(stream: BinaryIO) -> dict[str, np.ndarray]:
    arrays = {}
    with zipfile.ZipFile(stream) as archive:
        for member in archive.namelist():
            with archive.open(member) as content:
                array = np.lib.format.read_array(content, allow_pickle=False)
            arrays[member.removesuffix(".npy")] = array
    return arrays
