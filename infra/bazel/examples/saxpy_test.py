"""Shows that cuda_library builds without a GPU: code for every architecture, and it loads."""

import ctypes
import os
import struct

import numpy as np
import pytest

_FATBIN_MAGIC = struct.pack("<I", 0xBA55ED50)
_ELF = 2  # kind of a fatbin entry that is machine code and not PTX


def _architectures(binary: bytes) -> set[int]:
    """Returns the compute capabilities of the machine code in every fatbin inside a binary.

    A fatbin is a 16-byte header {u32 magic, u16 version, u16 header_size, u64 size} and entries
    {u16 kind, u16 version, u32 header_size, u64 size, ..., u32 arch at byte 28}.
    """
    found = set()
    start = binary.find(_FATBIN_MAGIC)
    while start != -1:
        header_size, size = struct.unpack_from(
            "<HQ", binary[start + 6 : start + 8] + binary[start + 8 : start + 16]
        )
        offset, end = start + header_size, start + header_size + size
        while offset < end:
            kind, entry_header, entry_size = struct.unpack_from("<HxxIQ", binary, offset)
            if kind == _ELF:
                found.add(struct.unpack_from("<I", binary, offset + 28)[0])
            offset += entry_header + entry_size
        start = binary.find(_FATBIN_MAGIC, end)
    return found


def test_holds_code_for_every_architecture() -> None:
    with open(os.environ["SAXPY"], "rb") as file:
        assert _architectures(file.read()) >= {80, 90, 100}


def test_without_a_driver_the_runtime_says_so() -> None:
    if os.path.exists("/dev/nvidiactl"):
        pytest.fail("this test describes a machine without a GPU")
    library = ctypes.CDLL(os.path.abspath(os.environ["SAXPY"]))
    library.saxpy_error.restype = ctypes.c_char_p
    x = np.ones(4, np.float32)
    pointer = x.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
    error = library.saxpy(4, ctypes.c_float(2), pointer, pointer)
    assert library.saxpy_error(error) in {b"cudaErrorInsufficientDriver", b"cudaErrorNoDevice"}
