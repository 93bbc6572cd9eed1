"""What a run needs at least of this machine, found out before anything is allocated."""

import math
import os
from pathlib import Path
from typing import NamedTuple

import numpy as np

from models.weights import num_weights
from train.config.schema import ConfigError, TrainConfig

_FLOAT32_BYTES = 4
_CGROUP = Path("/sys/fs/cgroup")


class Need(NamedTuple):
    """Bytes on this machine, of all ranks together: what training cannot do with less of."""

    weights: int
    gradients: int
    optimizer: int
    average: int
    batches: int
    activations: int


def check_capacity(config: TrainConfig, world_size: int, zero_stage: int) -> None:
    """Checks that the memory of this machine can hold the run; see `least_need`.

    Raises:
        ConfigError: It cannot; the message names the keys, and says how much there is.
    """
    need, available = least_need(config, world_size, zero_stage), available_bytes()
    if sum(need) <= available:
        return
    sizes = {name: size for name, size in need._asdict().items() if size}
    parts = ", ".join(f"{name} {in_words(size)}" for name, size in sizes.items())
    ranks = f" on {world_size} ranks" if world_size > 1 else ""
    *others, last = _size_keys(config)
    raise ConfigError(
        f"training{ranks} takes at least {in_words(sum(need))} of memory ({parts}), and "
        f"{in_words(available)} are available; lower {', '.join(others)} or {last}"
    )


def _size_keys(config: TrainConfig) -> list[str]:
    """Returns what can be lowered, and what it is now."""
    written = config.model.config.model_dump(mode="json")
    values = {"data.global_batch_size": config.data.global_batch_size} | {
        f"model.config.{key}": written[key] for key in config.model.network.size_keys
    }
    return [f"{key} ({value})" for key, value in values.items()]


def least_need(config: TrainConfig, world_size: int, zero_stage: int) -> Need:
    """Estimates memory from below: what frameworks, kernels and compilers add is left out.

    Args:
        config: The run.
        world_size: Number of ranks, all on this machine.
        zero_stage: What they share out, see `ZeroConfig`; 0: each has all.
    """
    model, data = config.model, config.data
    weights = _FLOAT32_BYTES * num_weights(model)
    state = weights * len(config.optimizer.algorithm.slots)
    if config.optimizer.algorithm.state_bits == 8:
        state //= 4
    examples = data.describe()
    example_bytes = np.dtype(examples.input_dtype).itemsize * math.prod(examples.input_shape)
    kept = model.network.activations(model.config) * data.global_batch_size
    if config.memory.checkpointing != "none":
        kept = 0  # of a block at a time, which is not told
    activation_bytes = _FLOAT32_BYTES if config.precision.compute_dtype is None else 2
    all_weights = weights * (1 if zero_stage >= 3 else world_size)
    return Need(
        weights=all_weights,
        gradients=weights * (1 if zero_stage >= 2 else world_size),
        optimizer=state * (1 if zero_stage >= 1 else world_size),
        average=0 if config.ema.decay is None else all_weights,
        batches=2 * example_bytes * data.global_batch_size,  # this step's and the next one's
        activations=activation_bytes * kept // data.gradient_accumulation_steps,
    )


def available_bytes() -> int:
    """Returns how much this process can still allocate: of the machine, and of its container."""
    fields = dict(
        line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines() if ":" in line
    )
    machine = 1024 * sum(int(fields[name].split()[0]) for name in ("MemAvailable", "SwapFree"))
    return min([machine, *_left_in_groups()])


def _left_in_groups() -> list[int]:
    """Returns what the limits of the process's control groups leave, caches counted as free."""
    left = []
    for group in _groups():
        try:
            limit = int((group / "memory.max").read_text())  # a ValueError where it is "max"
            used = int((group / "memory.current").read_text())
            stat = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
            left.append(limit - used + int(stat["file"]))
        except (OSError, ValueError, KeyError):  # no limit, or not told
            continue
    return left


def _groups() -> list[Path]:
    """Returns the control group (version 2) of this process, and those that hold it."""
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return []
    names = [line.removeprefix("0::/") for line in lines if line.startswith("0::/")]
    groups = [_CGROUP / name for name in names]
    return [
        path
        for group in groups
        for path in (group, *group.parents)
        if path == _CGROUP or _CGROUP in path.parents
    ]


def check_threads(config: TrainConfig) -> None:
    """Checks that threads have cores of their own.

    Raises:
        ConfigError: They have not.
    """
    num_threads, cores = config.torch.num_threads, len(os.sched_getaffinity(0))
    if num_threads is not None and num_threads > cores:
        raise ConfigError(
            f"torch.num_threads: expected at most {cores}, the cores of this machine that the "
            f"process may use, got {num_threads}"
        )


def in_words(num_bytes: int) -> str:
    """Returns a size as people read it, such as `1.5 GiB`."""
    size = float(num_bytes)
    for unit in ("bytes", "KiB", "MiB", "GiB", "TiB"):
        if size < 1024:
            return f"{size:.4g} {unit}"
        size /= 1024
    return f"{size:,.4g} PiB"
