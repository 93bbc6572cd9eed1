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
_GIT_TIMEOUT_S = 10


class SourceState(NamedTuple):
    """The commit of the source tree, `unknown` outside a checkout, and whether files differ."""

    commit: str
    dirty: bool


def source_state() -> SourceState:
    """Asks git about the workspace that `bazel run` was called in."""
    workspace = os.environ.get("BUILD_WORKSPACE_DIRECTORY")
    if workspace is None:
        return SourceState(UNKNOWN_COMMIT, dirty=False)
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
    try:
        cpuinfo = Path("/proc/cpuinfo").read_text()
    except OSError:
        cpuinfo = ""
    found = re.search(r"^model name\s*: (.+)$", cpuinfo, re.MULTILINE)
    return found[1].strip() if found else platform.machine()


def num_cores() -> int:
    """Returns how many CPUs this process may use."""
    return len(os.sched_getaffinity(0))


def library_versions(distributions: Sequence[str]) -> dict[str, str]:
    """Returns the installed version of Python and of each distribution."""
    versions = {name: metadata.version(name) for name in distributions}
    return {"python": platform.python_version(), **versions}


def _git(workspace: str, *arguments: str) -> str:
    command = ["git", "-C", workspace, *arguments]
    result = subprocess.run(
        command, capture_output=True, check=True, text=True, timeout=_GIT_TIMEOUT_S
    )
    return result.stdout.strip()
