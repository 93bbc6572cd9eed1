"""The kernels for CUDA compiled ahead of time: found beside an operation, given to its launcher.

The directories of `FOLDERS`, written by infra/bazel/triton_compile.py and cuda_cubin.py, are Bazel
targets of those names or the work of infra/gpu/run.sh.
"""

import functools
import importlib.resources
import json
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

# Triton's kernels, which every operation has, and those in CUDA C++ for Hopper, which some have.
FOLDERS = ("triton_cubins", "cuda_cubins")

METADATA_FILE = "metadata.json"


def directory(package: str, folder: str = "triton_cubins") -> Path:
    """Returns one of `FOLDERS` of an operation, such as "kernels.attention".

    Raises:
      FileNotFoundError: it is not built.
    """
    if (found := _find(package, folder)) is None:
        path = f"{package.replace('.', '/')}/{folder}"
        target = f"//{package.replace('.', '/')}:{folder}"
        raise FileNotFoundError(
            f"the kernels for CUDA are not built: no {path} on the import path; build {target} "
            "with Bazel or run infra/gpu/run.sh --build-only"
        )
    return found


def metadata(path: Path) -> list[dict[str, Any]]:
    """Reads what there is to know of each kernel in a directory; see triton_compile.py."""
    cubins: list[dict[str, Any]] = json.loads((path / METADATA_FILE).read_text())["cubins"]
    return cubins


@functools.cache
def ensure_registered(native: ModuleType) -> None:
    """Registers all kernels of an operation with the launcher in its native module, once.

    Raises:
      FileNotFoundError: they are not built.
    """
    package = native.__name__.rpartition(".")[0]
    found = [directory(package), *(_find(package, folder) for folder in FOLDERS[1:])]
    for path in filter(None, found):
        for cubin in metadata(path):
            register(native, path, cubin)


def register(native: ModuleType, path: Path, cubin: Mapping[str, Any]) -> None:
    """Tells the launcher in an operation's native module of a kernel.

    Args:
      native: the module.
      path: the directory that holds the kernel.
      cubin: what `metadata` says of it.
    """
    native.register_kernel(
        name=cubin["name"],
        arch=cubin["arch"],
        arch_specific=cubin["arch_specific"],
        path=str(path / cubin["file"]),
        symbol=cubin["symbol"],
        parameters=cubin["parameters"],
        num_scratch_parameters=cubin["num_scratch_parameters"],
        num_warps=cubin["num_warps"],
        shared_bytes=cubin["shared_bytes"],
        constants={k: v for k, v in cubin["constants"].items() if isinstance(v, int)},
    )


def _find(package: str, folder: str) -> Path | None:
    # The package is a namespace: sources and build outputs may be in different places.
    for root in importlib.resources.files(package).iterdir():
        if root.name == folder and root.joinpath(METADATA_FILE).is_file():
            return Path(str(root))
    return None
