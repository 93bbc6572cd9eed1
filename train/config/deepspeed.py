"""A run in DeepSpeed's own words: the JSON that its engine is given, and ours made of such a JSON.

What DeepSpeed's users have in a file is taken for the keys that ours cover, with the meaning that
they have there; a key that would not be heeded is refused by name.

Reference: https://www.deepspeed.ai/docs/config-json/
"""

import json
import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from base.config import shown
from optim.registry import ALGORITHMS, DEEPSPEED_TYPES
from train.config.schema import ConfigError, TrainConfig

# Hugging Face's word for what is given elsewhere; here, in our configuration.
_AUTO = "auto"

_MAX_CHARACTERS = 2**20

Json = Mapping[str, Any]
Overrides = dict[str, Any]

_Reader = Callable[[Any], Overrides]
_Readers = dict[str, _Reader]


def engine_config(config: TrainConfig, world_size: int) -> dict[str, Any]:
    """Returns the configuration that DeepSpeed's engine is given for a run of so many ranks."""
    batch_size = config.data.global_batch_size
    micro_batches = config.data.gradient_accumulation_steps
    return {
        "train_batch_size": batch_size,
        "train_micro_batch_size_per_gpu": batch_size // world_size // micro_batches,
        "gradient_accumulation_steps": micro_batches,
        "zero_optimization": _zero_optimization(config, world_size),
        "zero_force_ds_cpu_optimizer": False,  # ours steps there as fast
        "gradient_clipping": config.optimizer.max_grad_norm or 0.0,  # left out, it would be 1.0
    }


def _zero_optimization(config: TrainConfig, world_size: int) -> dict[str, Any]:
    zero, slots = config.zero, config.optimizer.algorithm.slots
    found: dict[str, Any] = {"stage": zero.stage, "sub_group_size": zero.sub_group_size}
    if zero.offload_optimizer.device != "none":
        found["offload_optimizer"] = zero.offload_optimizer.model_dump(exclude_none=True)
        # Of weights, of their gradients, and of each thing that is kept of them.
        found["offload_optimizer"]["buffer_count"] = max(4, 2 + len(slots))
    if zero.offload_param.device != "none":
        found["offload_param"] = zero.offload_param.model_dump(exclude_none=True)
    if zero.offload_param.device == "nvme":
        weights = config.model.network.weights(config.model.config).values()
        largest = max(math.prod(weight.shape) for weight in weights)
        found["offload_param"] |= {
            "max_in_cpu": 0,  # what is to be in files is in no memory besides
            "buffer_size": -(-largest // world_size),
        }
        # Otherwise weights would stay, and DeepSpeed's few buffers with them.
        found |= {"stage3_max_live_parameters": 0, "stage3_max_reuse_distance": 0}
    return found


def read_deepspeed(path: Path, world_size: int) -> Overrides:
    """Returns the values, by the paths of our keys, that a file of DeepSpeed's asks for.

    Args:
        path: Of a JSON file.
        world_size: Ranks of the run.

    Raises:
        ConfigError: It cannot be read, is no such JSON, contradicts itself, or has a key that would
            not be heeded.
    """
    try:
        text = path.read_text()[: _MAX_CHARACTERS + 1]
        content = json.loads(text)
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise ConfigError(f"{path} is not valid JSON: {error}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: expected an object of DeepSpeed's keys, got {shown(content)}")
    problems: list[str] = []
    overrides = _overrides(content, world_size, problems)
    if problems:
        lines = "".join(f"\n  {problem}" for problem in problems)
        raise ConfigError(f"{path} asks DeepSpeed for what is not done here:{lines}")
    return overrides


def _overrides(content: Json, world_size: int, problems: list[str]) -> Overrides:
    found: Overrides = {}
    for key, value in content.items():
        if value == _AUTO or key in _BATCH_KEYS:
            continue
        if (reader := _READERS.get(key)) is None:
            problems.append(_unheeded(key, _READERS | dict.fromkeys(_BATCH_KEYS)))
            continue
        try:
            found |= reader(value)
        except _ProblemError as problem:
            problems.append(f"{key}{problem}")
    try:
        found |= _batches(content, world_size)
    except _ProblemError as problem:
        problems.append(str(problem))
    if {"fp16", "bf16"} <= content.keys() and all(
        isinstance(content[key], dict) and content[key].get("enabled") is True
        for key in ("fp16", "bf16")
    ):
        problems.append("fp16.enabled, bf16.enabled: expected one of them at most")
    return found


# How much memory DeepSpeed has for what, which is computed here and changes no result: whatever a
# file says is taken, and replaced.
_ROOM_OF_WEIGHTS = ("stage3_max_live_parameters", "stage3_max_reuse_distance")
_ROOM_OF_OFFLOADED = ("buffer_count", "buffer_size", "max_in_cpu")


class _ProblemError(Exception):
    """What is wrong below a key; begins with the rest of its path."""


_BATCH_KEYS = ("train_batch_size", "train_micro_batch_size_per_gpu", "gradient_accumulation_steps")


def _batches(content: Json, world_size: int) -> Overrides:
    """Returns sizes of batches; DeepSpeed makes the one that is not given of the others."""
    whole, micro, steps = (
        None if content.get(key) in (None, _AUTO) else _count(content[key], key)
        for key in _BATCH_KEYS
    )
    if micro is not None:
        if whole is None:
            whole = micro * (steps or 1) * world_size
        if steps is None:
            steps = whole // (micro * world_size)
        if whole != micro * steps * world_size:
            raise _ProblemError(
                f"train_batch_size: expected train_micro_batch_size_per_gpu ({micro}) x "
                f"gradient_accumulation_steps ({steps}) x ranks ({world_size}), got {whole}"
            )
    found: Overrides = {}
    if whole is not None:
        found["data.global_batch_size"] = whole
    if steps is not None:
        found["data.gradient_accumulation_steps"] = steps
    return found


def _clipping(value: Any) -> Overrides:
    return {"optimizer.max_grad_norm": _number(value) or None}


def _zero(value: Any) -> Overrides:
    readers: _Readers = {
        **dict.fromkeys(_ROOM_OF_WEIGHTS, lambda _: {}),
        "stage": lambda stage: {"zero.stage": stage},
        "sub_group_size": lambda size: {"zero.sub_group_size": size},
        "offload_optimizer": lambda offload: _offload("zero.offload_optimizer", offload),
        "offload_param": lambda offload: _offload("zero.offload_param", offload),
    }
    return _section(value, readers)


def _offload(section: str, value: Any) -> Overrides:
    readers: _Readers = {
        **dict.fromkeys(_ROOM_OF_OFFLOADED, lambda _: {}),
        "device": lambda device: {f"{section}.device": device},
        "nvme_path": lambda path: {f"{section}.nvme_path": path},
        "pin_memory": _only(True),
    }
    return _section(value, readers)


def _precision(dtype: str, value: Any) -> Overrides:
    scaling = "precision.loss_scaling"
    readers: _Readers = {"enabled": lambda _: {}, "auto_cast": _only(False)}
    if dtype == "float16":
        readers |= {
            "loss_scale": _only(0),  # which is one that moves
            "consecutive_hysteresis": _only(False),
            "initial_scale_power": lambda p: {f"{scaling}.initial_scale": 2.0 ** _count(p, "")},
            "loss_scale_window": lambda steps: {f"{scaling}.growth_interval": _count(steps, "")},
            "hysteresis": lambda steps: {f"{scaling}.hysteresis": _count(steps, "")},
            "min_loss_scale": lambda scale: {f"{scaling}.min_scale": _number(scale)},
        }
    found = _section(value, readers)
    return {"precision.dtype": dtype, **found} if value.get("enabled") is True else {}


def _optimizer(value: Any) -> Overrides:
    kind = value.get("type") if isinstance(value, dict) else None
    name = DEEPSPEED_TYPES.get(kind.lower()) if isinstance(kind, str) else None
    if name is None:
        raise _ProblemError(
            f".type: expected one of {', '.join(DEEPSPEED_TYPES)}, got {shown(kind)}; of others "
            "choose one of ours by optimizer.name"
        )
    section = f"optimizer.{name}"

    def betas(pair: Any) -> Overrides:
        if not isinstance(pair, list) or len(pair) != 2:
            raise _ProblemError(f": expected two numbers, got {shown(pair)}")
        return {f"{section}.beta1": _number(pair[0]), f"{section}.beta2": _number(pair[1])}

    params: _Readers = {
        "lr": lambda rate: {f"{section}.learning_rate": _number(rate)},
        "betas": betas,
        "weight_decay": lambda decay: {f"{section}.weight_decay": _number(decay)},
    }
    if "epsilon" in ALGORITHMS[name].model_fields:
        params |= {
            "eps": lambda eps: {f"{section}.epsilon": _number(eps)},
            "adam_w_mode": _only(True),
            "bias_correction": _only(True),
        }
    readers: _Readers = {"type": lambda _: {}, "params": lambda given: _section(given, params)}
    return {"optimizer.name": name, **_section(value, readers)}


def _only(expected: Any) -> _Reader:
    """Returns a reader of a key that may say what is done anyway."""

    def read(value: Any) -> Overrides:
        if value != expected:
            raise _ProblemError(
                f": expected {json.dumps(expected)}, as it is here, got {shown(value)}"
            )
        return {}

    return read


def _section(value: Any, readers: _Readers) -> Overrides:
    if not isinstance(value, dict):
        raise _ProblemError(f": expected an object, got {shown(value)}")
    found: Overrides = {}
    for key, inner in value.items():
        if inner == _AUTO:
            continue
        if (reader := readers.get(key)) is None:
            raise _ProblemError(f".{_unheeded(key, readers)}")
        try:
            found |= reader(inner)
        except _ProblemError as problem:
            raise _ProblemError(f".{key}{problem}") from None
    return found


def _unheeded(key: str, readers: Mapping[str, object]) -> str:
    known = ", ".join(sorted(readers))
    return f"{key}: is not heeded here; remove it. Heeded are {known}"


def _count(value: Any, key: str) -> int:
    if type(value) is not int or value < 1:
        raise _ProblemError(f"{key}: expected a whole number from 1 up, got {shown(value)}")
    return value


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _ProblemError(f": expected a number, got {shown(value)}")
    return float(value)


_READERS: _Readers = {
    "gradient_clipping": _clipping,
    "zero_optimization": _zero,
    "fp16": lambda value: _precision("float16", value),
    "bf16": lambda value: _precision("bfloat16", value),
    "optimizer": _optimizer,
    "steps_per_print": lambda steps: {"run.log_every_steps": _count(steps, "")},
    # What our optimizers need, and have.
    "zero_allow_untested_optimizer": _only(True),
    "zero_force_ds_cpu_optimizer": _only(False),
    "wall_clock_breakdown": _only(False),
}


def as_options(overrides: Overrides) -> Iterator[str]:
    """Yields values as `--set` takes them."""
    return (f"{path}={json.dumps(value)}" for path, value in overrides.items())
