"""A CUDA driver that records what the launcher asks of it, for tests without a GPU."""

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

# The codes of fake_cuda.c by Triton's names; all other types are pointers.
_CODES = {"i32": "i", "i64": "l", "fp32": "f"}


# Registers cubins, those of a directory or else those built, and makes calls of the native module.
_CALLS = """
import importlib, json, sys
from pathlib import Path
from kernels import cubin_loader
request = json.loads(sys.argv[1])
native = importlib.import_module(request["native"])
if directory := request["directory"]:
    for cubin in cubin_loader.metadata(Path(directory)):
        cubin_loader.register(native, Path(directory), cubin)
else:
    cubin_loader.ensure_registered(native)
for function, arguments in request["calls"]:
    getattr(native, function)(**{"device": 0, "stream": 0x777, **arguments})
"""


def fixture() -> Any:
    """Returns a fixture of a module: fake_cuda.c, compiled."""

    @pytest.fixture(scope="module")
    def driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
        library = tmp_path_factory.mktemp("driver") / "libfake_cuda.so"
        source = Path(__file__).with_name("fake_cuda.c")
        subprocess.run(["gcc", "-O1", "-shared", "-fPIC", "-o", library, source], check=True)
        return library

    return driver


def call(
    kernels: ModuleType,
    calls: Iterable[tuple[str, dict[str, Any]]],
    *,
    driver: Path | str,
    log: Path,
    directory: Path | None = None,
    **env: str,
) -> tuple[list[str], str]:
    """Calls functions of an operation's native module, in a process of its own, on the driver.

    Args:
      kernels: the operation's triton_kernels, whose VARIANTS say what the parameters of its kernels
        are: the kernels, not the metadata of the cubins.
      calls: functions and their arguments, which JSON holds; on device 0 unless they say otherwise.
      driver: what `fixture` gives, or another library.
      log: file for what the driver records.
      directory: of cubins, in place of those built.
      **env: further environment variables, such as FAKE_CUDA_CAPABILITY, 90 unless given.

    Returns:
      The lines of the log and the error output of the process.
    """
    log.write_text("")
    request = {
        "native": f"{kernels.__name__.rpartition('.')[0]}._native",
        "calls": list(calls),
        "directory": str(directory or ""),
    }
    defaults = {
        "HPC_LIBCUDA": str(driver),
        "FAKE_CUDA_LOG": str(log),
        "FAKE_CUDA_CAPABILITY": "90",
        "FAKE_CUDA_PARAMETERS": _parameter_codes(kernels.VARIANTS),
    }
    done = subprocess.run(
        [sys.executable, "-c", _CALLS, json.dumps(request)],
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
