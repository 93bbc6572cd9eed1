"""A CUDA driver that records what the launcher asks of it, for tests without a GPU."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

# The codes of fake_cuda.c by Triton's names; all other types are pointers.
_CODES = {"i32": "i", "i64": "l", "fp32": "f"}


def archs() -> tuple[int, ...]:
    """The compute capabilities that the cubins of this build are for; see triton_kernels.bzl."""
    return tuple(map(int, os.environ["HPC_GPU_ARCHS"].split()))


def is_sample() -> bool:
    """Whether this build need not have compiled more than a sample; see kernels/BUILD."""
    return len(archs()) == 1


def compiled(kernels: ModuleType) -> Sequence[Any]:
    """Of the VARIANTS of an operation those that this build has compiled in any case."""
    variants: Sequence[Any] = kernels.SAMPLE if is_sample() else kernels.VARIANTS
    return variants


def build(directory: Path) -> Path:
    """Compiles fake_cuda.c into a directory and returns the library."""
    library = directory / "libfake_cuda.so"
    source = Path(__file__).with_name("fake_cuda.c")
    subprocess.run(["gcc", "-O1", "-shared", "-fPIC", "-o", library, source], check=True)
    return library


def run(
    program: str,
    argument: str,
    *,
    driver: Path | str,
    log: Path,
    variants: Sequence[Any],
    **env: str,
) -> tuple[list[str], str]:
    """Runs a Python program on the driver.

    Args:
      program: its text.
      argument: what it gets as sys.argv[1].
      driver: what `build` gave, or another library.
      log: file for what the driver records.
      variants: VARIANTS of the triton_kernels of the operation, which say what the parameters of
        its kernels are: the kernels, not the metadata of the cubins.
      **env: further environment variables, such as FAKE_CUDA_CAPABILITY, 90 unless given.

    Returns:
      The lines of the log and the error output of the program.
    """
    log.write_text("")
    defaults = {
        "HPC_LIBCUDA": str(driver),
        "FAKE_CUDA_LOG": str(log),
        "FAKE_CUDA_CAPABILITY": "90",
        "FAKE_CUDA_PARAMETERS": _parameter_codes(variants),
    }
    done = subprocess.run(
        [sys.executable, "-c", program, argument],
        env={**os.environ, **defaults, **env},
        check=False,
        capture_output=True,
        text=True,
    )
    return log.read_text().splitlines(), done.stderr


def launches(log: Sequence[str]) -> list[dict[str, str]]:
    """The launches in a log, as {field: text}."""
    lines = (line.split()[1:] for line in log if line.startswith("launch"))
    return [dict(field.split("=", 1) for field in line) for line in lines]


def _parameter_codes(variants: Sequence[Any]) -> str:
    kernels = {v.kernel.__name__: v.signature for v in variants}
    return "".join(
        f"{name}={''.join(_CODES.get(kind.split(':')[0], 'p') for kind in signature.values())}pp;"
        for name, signature in kernels.items()
    )
