"""What a run needs at least of this machine, found out before anything is allocated."""

import math
import os
from pathlib import Path
from typing import NamedTuple

from models.config import VisionTransformerConfig
from models.weights import weight_shapes
from train.config import ConfigError, TrainConfig

_FLOAT32_BYTES = 4
_CGROUP = Path("/sys/fs/cgroup")


class Need(NamedTuple):
    """Bytes on this machine, of all ranks together: what training cannot do with less of."""

    weights: int
    gradients: int
    optimizer: int
    batches: int
    activations: int


def check_capacity(config: TrainConfig, world_size: int) -> None:
    """Checks that the memory of this machine can hold the run.

    Raises:
        ConfigError: It cannot; the message names the keys, and says how much there is.
    """
    need, available = least_need(config, world_size), available_bytes()
    if sum(need) <= available:
        return
    model, data = config.model.config, config.data
    parts = ", ".join(f"{name} {in_words(size)}" for name, size in need._asdict().items())
    ranks = f" on {world_size} ranks" if world_size > 1 else ""
    raise ConfigError(
        f"training{ranks} takes at least {in_words(sum(need))} of memory ({parts}), and "
        f"{in_words(available)} are available; lower data.global_batch_size "
        f"({data.global_batch_size}), model.config.embed_dim ({model.embed_dim}), "
        f"model.config.mlp_ratio ({model.mlp_ratio}) or model.config.num_layers "
        f"({model.num_layers})"
    )


def least_need(config: TrainConfig, world_size: int) -> Need:
    """Estimates memory from below: what frameworks, kernels and compilers add is left out."""
    model, data, zero = config.model.config, config.data, config.zero
    weights = _FLOAT32_BYTES * num_weights(model)
    state = weights * len(config.optimizer.algorithm.slots)
    if config.optimizer.algorithm.state_bits == 8:
        state //= 4
    tokens = data.global_batch_size * model.seq_len // data.gradient_accumulation_steps
    # Kept for the way back: queries, keys and values, and the hidden layer.
    per_token = model.num_layers * (3 * model.embed_dim + model.mlp_dim)
    images = data.global_batch_size * model.image_size**2 * model.num_channels
    return Need(
        weights=weights * (1 if zero.stage >= 3 else world_size),
        gradients=weights * (1 if zero.stage >= 2 else world_size),
        optimizer=state * (1 if zero.stage >= 1 else world_size),
        batches=_FLOAT32_BYTES * images * world_size,  # each rank draws the whole batch
        activations=_FLOAT32_BYTES * tokens * per_token,
    )


def num_weights(config: VisionTransformerConfig) -> int:
    """Counts the model's weights; of layers, which are alike, one is looked at."""
    one, two = (_count(config.model_copy(update={"num_layers": layers})) for layers in (1, 2))
    return one + (config.num_layers - 1) * (two - one)


def _count(config: VisionTransformerConfig) -> int:
    return sum(map(math.prod, weight_shapes(config).values()))


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
