"""Where a result comes from: the source tree, the machine and the libraries."""

import os
import platform
import re
import subprocess
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

UNKNOWN_COMMIT = "unknown"

# Where images say it, which have no checkout.
_COMMIT = "HPC_COMMIT"

# The instruction sets that numerical kernels choose by, as /proc/cpuinfo spells them.
_CPU_FEATURES = (
    "fma",
    "avx2",
    "avx_vnni",
    "avx512f",
    "avx512bw",
    "avx512vl",
    "avx512_bf16",
    "avx512_fp16",
    "avx512_vnni",
    "amx_tile",
    "amx_bf16",
    "amx_int8",
    "asimd",
    "sve",
)

# Variables, or how they begin, by which libraries compute otherwise. None of them holds a secret:
# of our own each is named, as one has the password of a signing key.
_FLAGS = (
    "ATEN_CPU_CAPABILITY",
    "CUBLAS_WORKSPACE_CONFIG",
    "CUDA_VISIBLE_DEVICES",
    "DNNL_",
    "HPC_CPU_ISA",
    "HPC_KERNEL_BACKEND",
    "HPC_NUM_THREADS",
    "JAX_",
    "MKL_",
    "NCCL_",
    "NVIDIA_TF32_OVERRIDE",
    "OMP_",
    "ONEDNN_",
    "PYTORCH_",
    "TORCH_",
    "TRITON_",
    "XLA_",
)
_GIT_TIMEOUT_S = 10


class SourceState(NamedTuple):
    """The commit of the source tree, `unknown` if nothing says it, and whether files differ."""

    commit: str
    dirty: bool


def source_state() -> SourceState:
    """Asks git about the workspace that `bazel run` was called in, or outside of one the image."""
    workspace = os.environ.get("BUILD_WORKSPACE_DIRECTORY")
    if workspace is None:
        return SourceState(os.environ.get(_COMMIT) or UNKNOWN_COMMIT, dirty=False)
    try:
        commit = _git(workspace, "rev-parse", "--verify", "HEAD")
        return SourceState(commit, dirty=bool(_git(workspace, "status", "--porcelain")))
    except (OSError, subprocess.SubprocessError):  # no git, no repository or no commit yet
        return SourceState(UNKNOWN_COMMIT, dirty=False)


def host(device: str) -> str:
    """Describes this machine for a human, e.g. `Intel(R) Xeon(R), 2 cores, Linux-6.1..., cpu`."""
    return f"{processor()}, {num_cores()} cores, {platform.platform()}, {device}"


def processor() -> str:
    """Returns the model name of the CPU, or its architecture where Linux does not say more."""
    return _of_cpu("model name") or platform.machine()


def cpu_features() -> list[str]:
    """Returns the instruction sets of the CPU that numerical kernels choose by."""
    has = (_of_cpu("flags") or _of_cpu("Features") or "").split()
    return [feature for feature in _CPU_FEATURES if feature in has]


def flags() -> dict[str, str]:
    """Returns the variables of the environment by which libraries compute otherwise, if set."""
    return {name: value for name, value in sorted(os.environ.items()) if name.startswith(_FLAGS)}


def num_cores() -> int:
    """Returns how many CPUs this process may use."""
    return len(os.sched_getaffinity(0))


def library_versions(distributions: Sequence[str]) -> dict[str, str]:
    """Returns the installed version of Python and of each distribution."""
    versions = {name: metadata.version(name) for name in distributions}
    return {"python": platform.python_version(), **versions}


def _of_cpu(key: str) -> str | None:
    """Returns what Linux says of the first CPU; None: it does not."""
    try:
        cpuinfo = Path("/proc/cpuinfo").read_text()
    except OSError:
        return None
    found = re.search(rf"^{key}\s*: (.+)$", cpuinfo, re.MULTILINE)
    return None if found is None else found[1].strip()


def _git(workspace: str, *arguments: str) -> str:
    command = ["git", "-C", workspace, *arguments]
    result = subprocess.run(
        command, capture_output=True, check=True, text=True, timeout=_GIT_TIMEOUT_S
    )
    return result.stdout.strip()
