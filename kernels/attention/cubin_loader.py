"""The Triton kernels compiled ahead of time: found beside this package and given to the launcher.

The directory `cubins/`, written by infra/bazel/triton_compile.py, is the Bazel target of that name
or the work of infra/gpu/run.sh.
"""

import functools
import importlib.resources
import json
from pathlib import Path
from typing import Any

from kernels.attention import _native

METADATA_FILE = "metadata.json"


def directory() -> Path:
    """Returns the directory of the cubins.

    Raises:
      FileNotFoundError: they are not built.
    """
    # The package is a namespace: sources and build outputs may be in different places.
    for root in importlib.resources.files("kernels.attention").iterdir():
        if root.name == "cubins" and root.joinpath(METADATA_FILE).is_file():
            return Path(str(root))
    raise FileNotFoundError(
        "attention's kernels for CUDA are not built: no kernels/attention/cubins on the import "
        "path; build //kernels/attention:cubins with Bazel or run infra/gpu/run.sh --build-only"
    )


def metadata(path: Path) -> list[dict[str, Any]]:
    """Reads what there is to know of each cubin in a directory; see triton_compile.py."""
    cubins: list[dict[str, Any]] = json.loads((path / METADATA_FILE).read_text())["cubins"]
    return cubins


def register(path: Path) -> None:
    """Registers all cubins of a directory with the native launcher."""
    for cubin in metadata(path):
        _native.register_kernel(
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


@functools.cache
def ensure_registered() -> None:
    """Registers the cubins beside this package, once.

    Raises:
      FileNotFoundError: they are not built.
    """
    register(directory())
