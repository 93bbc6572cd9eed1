"""What a key needs beside it to be heeded, and with which others it has to change."""

from tempfile import TemporaryDirectory, gettempdir
from typing import Any

from base.config_reference import Leaf
from tests.effects.bases import BASES
from tests.effects.content import Content, with_value

# Beside the one of temporary files.
_OTHER_DISK = TemporaryDirectory()

# Keys that are heeded only beside others: the values that those have, by the path of the key, or by
# the path of a section and a point.
_BESIDE: dict[str, dict[str, Any]] = {
    **{
        f"optimizer.{name}.": {"optimizer.name": name}
        for name in ("adabelief", "adamw", "adan", "lion", "sophia")
    },
    "optimizer.adan.decay": {"optimizer.name": "adan", "optimizer.adan.weight_decay": 0.5},
    "optimizer.sophia.curvature_every": {
        "optimizer.name": "sophia",
        "optimizer.sophia.curvature_every": 1,
    },
    # Of small tensors it is not heeded.
    **{
        f"optimizer.{name}.state_bits": {"optimizer.name": name, "model.config.hidden_sizes": [96]}
        for name in ("adabelief", "adamw", "adan", "lion", "sophia")
    },
    "optimizer.max_grad_value": {"optimizer.max_grad_value": 1e-3},
    "gradient_compression.": {"gradient_compression.enabled": True},
    "gradient_compression.enabled": {},
    "evaluation.validation_fraction": {
        "evaluation.every_steps": 1,
        "evaluation.validation_fraction": 0.25,
    },
    "ema.decay": {"ema.decay": 0.5, "ema.warmup": False},
    "ema.warmup": {"ema.decay": 0.9},
    "schedule.power": {"schedule.kind": "warmup_polynomial"},
    "schedule.num_restarts": {"schedule.kind": "warmup_cosine_restarts"},
    "schedule.cycle_growth": {
        "schedule.kind": "warmup_cosine_restarts",
        "schedule.num_restarts": 2,
    },
    "schedule.decay_fraction": {"schedule.kind": "warmup_stable_decay"},
    "data.augment.": {"data.augment": {}},
    "zero.sub_group_size": {"zero.stage": 3, "zero.sub_group_size": 64},
    "zero.offload_optimizer.device": {"zero.stage": 1},
    "zero.offload_param.device": {"zero.stage": 3},
    **{
        f"zero.{section}.nvme_path": {
            "zero.stage": 3,
            f"zero.{section}.device": "nvme",
            f"zero.{section}.nvme_path": gettempdir(),
        }
        for section in ("offload_optimizer", "offload_param")
    },
    "checkpoint.": {"checkpoint.every_steps": 1, "checkpoint.keep_last": 1},
    "checkpoint.keep_best": {
        "checkpoint.every_steps": None,
        "checkpoint.keep_last": 1,
        "evaluation.every_steps": 1,
    },
    "checkpoint.keep_best_metric": {"checkpoint.keep_best": 1, "evaluation.every_steps": 1},
    "callbacks.watch.spike_deviations": {
        "callbacks.watch.on_spike": "stop",
        "callbacks.watch.window_steps": 4,
    },
    "callbacks.watch.window_steps": {
        "callbacks.watch.on_spike": "stop",
        "callbacks.watch.window_steps": 4,
    },
    "callbacks.watch.max_incidents": {
        "callbacks.watch.on_non_finite": "skip",
        "callbacks.watch.max_incidents": 2,
    },
    "callbacks.early_stopping.": {
        "callbacks.early_stopping.patience": 3,
        "evaluation.every_steps": 1,
    },
    "callbacks.reduce_on_plateau.": {
        "callbacks.reduce_on_plateau.patience": 2,
        "evaluation.every_steps": 1,
    },
    "callbacks.metrics.prometheus_host": {"callbacks.metrics.prometheus_port": 0},
    "callbacks.profiler.": {"callbacks.profiler.first_step": 1, "callbacks.profiler.num_steps": 1},
    "callbacks.resources.every_s": {"callbacks.resources.every_s": 60.0},
    "callbacks.reduce_on_plateau.min_scale": {
        "callbacks.reduce_on_plateau.patience": 1,
        "callbacks.reduce_on_plateau.factor": 0.1,
        "evaluation.every_steps": 1,
    },
    "model.config.checkpointed_stages": {"memory.checkpointing": "full"},
    "precision.loss_scaling.": {"precision.dtype": "float16"},
    "precision.loss_scaling.growth_interval": {
        "precision.dtype": "float16",
        "precision.loss_scaling.growth_interval": 1,
    },
    "precision.loss_scaling.growth_factor": {
        "precision.dtype": "float16",
        "precision.loss_scaling.growth_interval": 1,
    },
    # The first gradients overflow.
    **{
        f"precision.loss_scaling.{key}": {
            "precision.dtype": "float16",
            "precision.loss_scaling.initial_scale": 1e38,
        }
        for key in ("backoff_factor", "hysteresis", "min_scale")
    },
    **{
        f"regularization.{name}.": {
            f"regularization.{name}.{key}": value
            for key, value in {"shape": "linear", "final": 0.2, "begin": 0.1, "end": 0.9}.items()
        }
        for name in ("dropout", "stochastic_depth", "weight_decay")
    },
}

# Keys that change only together with others, since sizes have to fit.
_TOGETHER: dict[str, list[dict[str, Any]]] = {
    **{
        path: [{path: "loss_nats"}, {path: "mae"}]
        for path in (
            "callbacks.early_stopping.metric",
            "callbacks.reduce_on_plateau.metric",
            "checkpoint.keep_best_metric",
        )
    },
    **{
        f"zero.{section}.nvme_path": [{f"zero.{section}.nvme_path": _OTHER_DISK.name}]
        for section in ("offload_optimizer", "offload_param")
    },
    "artifact.programs": [{"artifact.programs": ["torch_export"]}],
    "callbacks.metrics.prometheus_host": [{"callbacks.metrics.prometheus_host": "127.0.0.2"}],
    "callbacks.metrics.prometheus_port": [{"callbacks.metrics.prometheus_port": 0}],
    "callbacks.resources.every_s": [{"callbacks.resources.every_s": None}],
    "model.architecture": [{"model": BASES["convolutions"]["model"]}],
    "task": [
        {"task": "regression", "model.config.head.kind": "regression"}
        | {"model.config.head.num_targets": 1, "model.config.num_classes": None}
        | {"model.config.input.vector.shape": [2], "model.config.head.logit_softcap": None}
        | {"data.source": "waves", "data.options": {}},
    ],
    "model.config.attention.kind": [
        {"model.config.attention.kind": "attention", "model.config.attention.decay": "none"}
    ],
    "model.config.mixture_of_experts.routing": [
        {"model.config.mixture_of_experts.routing": "expert_choice"}
        | {"model.config.mixture_of_experts.load_balance_weight": 0.0}
    ],
    "run.num_epochs": [{"run.num_steps": None, "run.num_epochs": 1}],
    "precision.loss_scaling.min_scale": [{"precision.loss_scaling.min_scale": 1e38}],
    "data.source": [
        {"data.source": "mnist10k", "model.config.input.patches.image_size": 28},
        {"data.source": "mnist10k"}
        | {"model.config.image.height": 28, "model.config.image.width": 28},
    ],
    "data.options.num_classes": [{"data.options.num_classes": 4, "model.config.num_classes": 4}],
    "data.options.num_features": [
        {"data.options.num_features": 6, "model.config.input.vector.shape": [6]}
    ],
    "data.options.vocab_size": [
        {"data.options.vocab_size": 14, "model.config.input.tokens.vocab_size": 14}
    ],
    "data.options.seq_len": [{"data.options.seq_len": 20, "model.config.input.tokens.seq_len": 20}],
    "data.options.num_dimensions": [
        {"data.options.num_dimensions": 3, "model.config.input.vector.shape": [3]}
    ],
    "data.options.num_targets": [
        {"data.options.num_targets": 2, "model.config.head.num_targets": 2}
    ],
    "model.config.image.num_channels": [
        {"data.options.num_dimensions": 3, "model.config.image.num_channels": 3}
    ],
    "data.options.layout": [
        {"data.options.layout": "pixel", "model.config.input.vector.shape": [1, 1, 2]}
    ],
    "model.config.input.patches.num_channels": [
        {"data.options.num_dimensions": 3, "model.config.input.patches.num_channels": 3}
    ],
    "model.config.head.kind": [
        {"model.config.head.kind": "regression", "task": "regression"}
        | {"model.config.head.num_targets": 1, "model.config.num_classes": None}
        | {"model.config.input.vector.shape": [2], "model.config.head.logit_softcap": None}
        | {"data.source": "waves", "data.options": {}},
    ],
}
# What stands in the network stands in the data, too.
_TOGETHER |= {
    "model.config.input.patches.image_size": _TOGETHER["data.source"],
    "model.config.image.height": _TOGETHER["data.source"],
    "model.config.image.width": _TOGETHER["data.source"],
    "model.config.num_classes": [
        *_TOGETHER["data.options.num_classes"],
        {"data.options.num_targets": 3, "model.config.num_classes": 3},
    ],
    "model.config.input.vector.shape": _TOGETHER["data.options.num_features"],
    "model.config.input.tokens.vocab_size": _TOGETHER["data.options.vocab_size"],
    "model.config.input.tokens.seq_len": _TOGETHER["data.options.seq_len"],
    "model.config.head.num_targets": _TOGETHER["data.options.num_targets"],
}


def with_what_it_needs(leaf: Leaf, content: Content) -> Content:
    """Returns a run with the values that other keys have to have for one to be heeded."""
    for path, value in _beside(leaf.path).items():
        content = with_value(content, path, value)
    return content


def together(leaf: Leaf) -> list[dict[str, Any]]:
    """Returns changes of several keys at once, of which the leaf is one; usually none."""
    return _TOGETHER.get(leaf.path, [])


def _beside(path: str) -> dict[str, Any]:
    if path in _BESIDE:
        return _BESIDE[path]
    sections = [key for key in _BESIDE if key.endswith(".") and path.startswith(key)]
    return _BESIDE[max(sections, key=len)] if sections else {}
