"""What a benchmark ran on, as far as it may change the numbers."""

import os
import platform
import re
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from base.provenance import cpu_features, library_versions, num_cores, processor, source_state

# What changes a benchmark's numbers and is easily forgotten.
_ENVIRONMENT = (
    "HPC_CPU_ISA",
    "HPC_KERNEL_BACKEND",
    "HPC_NUM_THREADS",
    "OMP_NUM_THREADS",
    "OMP_WAIT_POLICY",
    "XLA_FLAGS",
)

_QUERY_TIMEOUT_S = 20


class Machine(BaseModel):
    """One machine at one time.

    Attributes:
      cpu: model name.
      cores: CPUs that this process may use.
      isa: instruction sets of the CPU that kernels choose by.
      memory_gib: of the whole machine.
      load_average: of the minute before, over all cores: what else was running.
      gpu: name, memory and driver of each; empty without an NVIDIA driver.
      commit, dirty: of the source tree; `unknown` outside `bazel run` and outside a checkout.
      environment: variables that change the speed of kernels, where set.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    date: str
    cpu: str
    cores: int
    isa: tuple[str, ...]
    memory_gib: float
    load_average: float
    gpu: tuple[str, ...]
    os: str
    kernel: str
    versions: dict[str, str]
    commit: str
    dirty: bool
    environment: dict[str, str]


def describe_machine(distributions: Sequence[str]) -> Machine:
    """Describes this machine, with the installed versions of `distributions`.

    Raises:
      importlib.metadata.PackageNotFoundError: one of them is not installed.
    """
    memory_kib = _field(r"^MemTotal:\s*(\d+) kB$", _text("/proc/meminfo"))
    source = source_state()
    return Machine(
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        cpu=processor(),
        cores=num_cores(),
        isa=tuple(cpu_features()),
        memory_gib=round(int(memory_kib or 0) / 2**20, 1),
        load_average=round(os.getloadavg()[0], 2),
        gpu=find_gpus(),
        os=_field(r'^PRETTY_NAME="?(.+?)"?$', _text("/etc/os-release")) or platform.system(),
        kernel=platform.release(),
        versions=library_versions(distributions),
        commit=source.commit,
        dirty=source.dirty,
        environment={name: os.environ[name] for name in _ENVIRONMENT if name in os.environ},
    )


def in_words(machine: Machine) -> str:
    """One line for a human."""
    versions = ", ".join(f"{name} {version}" for name, version in machine.versions.items())
    parts = [f"{machine.cores} cores of {machine.cpu} ({' '.join(machine.isa)})"]
    parts += [*machine.gpu, f"{machine.memory_gib} GiB", machine.os, versions]
    commit = machine.commit[:12] + (" with changes" if machine.dirty else "")
    return "; ".join([*parts, f"commit {commit}", f"load {machine.load_average} before"])


def find_gpus() -> tuple[str, ...]:
    """Name, memory and driver of each NVIDIA GPU; empty without a driver."""
    query = ["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    try:
        result = subprocess.run(
            query, capture_output=True, check=True, text=True, timeout=_QUERY_TIMEOUT_S
        )
    except (OSError, subprocess.SubprocessError):  # no driver, no GPU
        return ()
    return tuple(line.strip() for line in result.stdout.splitlines() if line.strip())


def _text(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""


def _field(pattern: str, text: str) -> str:
    found = re.search(pattern, text, re.MULTILINE)
    return found[1].strip() if found else ""
