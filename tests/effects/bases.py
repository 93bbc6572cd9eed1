"""Small runs, one of which heeds any key; and what a key needs beside it to be heeded."""

import copy
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from train.config.reference import Leaf, Part

Content = dict[str, Any]

_RUN = """
artifact: {name: base}
run: {num_steps: 3, log_every_steps: 1}
data: {global_batch_size: 4}
optimizer: {adamw: {learning_rate: 0.01, weight_decay: 0.1}}
torch: {num_threads: 1}
"""

# Sections that differ, by the name of the run. What can be turned on is.
_SECTIONS = {
    "perceptron": """
data:
  source: mixture
  options: {num_features: 5, num_classes: 3, num_clusters: 4, num_train: 40, num_test: 8}
task: classification
model:
  architecture: mlp
  config:
    input: {vector: {shape: [5]}}
    hidden_sizes: [8, 6]
    dropout_rate: 0.2
    num_classes: 3
    head: {dropout_rate: 0.2, logit_softcap: 3.0}
""",
    "perceptron of numbers": """
data:
  source: waves
  options: {num_waves: 3, noise: 0.1, num_train: 40, num_test: 8}
task: regression
loss: {huber_delta: 0.5}
model:
  architecture: mlp
  config:
    input: {vector: {shape: [2]}}
    hidden_sizes: [6]
    head: {kind: regression, num_targets: 1}
""",
    "transformer of a pixel": """
data:
  source: waves
  options: {layout: pixel, num_dimensions: 2, num_train: 40, num_test: 8}
task: regression
model:
  architecture: mlp
  config:
    input: {patches: {image_size: 1, patch_size: 1, num_channels: 2}}
    hidden_sizes: [6]
    head: {kind: regression, num_targets: 1}
""",
    "transformer of images": """
data: {source: digits}
task: classification
model:
  architecture: mlp
  config:
    input: {patches: {image_size: 8, patch_size: 2, num_channels: 1}}
    hidden_sizes: [16]
    activation: identity
    num_blocks: 2
    num_classes: 10
    embedding_dropout_rate: 0.1
    positions:
      learned: {enabled: true, stddev: 0.5}
      rotary: {enabled: true}
      alibi: {enabled: true}
    mixer:
      {kind: attention, num_heads: 4, num_kv_heads: 2, window: 3, softcap: 2.0,
       dropout_rate: 0.1, qk_norm: {enabled: true}}
    feed_forward: {kind: gated, dropout_rate: 0.1, hidden_multiple_of: 3}
    block: {layer_scale: 0.5, dropout_rate: 0.1, stochastic_depth: {rate: 0.3}}
    final_norm: true
""",
    "linear attention": """
data: {source: digits}
task: classification
model:
  architecture: mlp
  config:
    input: {patches: {image_size: 8, patch_size: 2, num_channels: 1}}
    hidden_sizes: [16]
    num_blocks: 1
    num_classes: 10
    mixer: {kind: linear_attention, num_heads: 4, causal: true, decay: fixed}
""",
    "experts": """
data: {source: digits}
task: classification
model:
  architecture: mlp
  config:
    input: {patches: {image_size: 8, patch_size: 2, num_channels: 1}}
    hidden_sizes: [8]
    num_blocks: 2
    num_classes: 10
    feed_forward: {hidden_ratio: 1.0}
    mixture_of_experts:
      {num_experts: 4, top_k: 2, capacity_factor: 0.5, load_balance_weight: 0.1,
       router_z_weight: 0.1, router_jitter: 0.2, router_noise: 0.2, num_shared_experts: 1}
""",
    "language model": """
data:
  source: recall
  options:
    {vocab_size: 12, num_pairs: 2, num_queries: 2, seq_len: 16, min_seq_len: 8, num_train: 40,
     num_test: 8}
task: next_token
model:
  architecture: mlp
  config:
    input: {tokens: {vocab_size: 12, seq_len: 16}}
    hidden_sizes: [8]
    num_blocks: 1
    mixer: {kind: attention, num_heads: 2, causal: true}
    head: {kind: next_token, tied: true}
""",
    "model of bytes": """
data:
  source: stdlib_text
  options: {seq_len: 16, max_bytes: 1000000, max_held_out_bytes: 500}
task: next_token
model:
  architecture: mlp
  config:
    input: {tokens: {vocab_size: 256, seq_len: 16}}
    hidden_sizes: [8]
    head: {kind: next_token}
""",
}

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
    "gradient_compression.": {"gradient_compression.enabled": True},
    "gradient_compression.enabled": {},
    "schedule.power": {"schedule.kind": "warmup_polynomial"},
    "schedule.decay_fraction": {"schedule.kind": "warmup_stable_decay"},
    "zero.offload_optimizer": {"zero.stage": 1},
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
    "task": [
        {"task": "regression", "model.config.head.kind": "regression"}
        | {"model.config.head.num_targets": 1, "model.config.num_classes": None}
        | {"model.config.input.vector.shape": [2], "model.config.head.logit_softcap": None}
        | {"data.source": "waves", "data.options": {}},
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


def bases(part: Part) -> Iterator[tuple[str, Content]]:
    """Yields runs, with their names, in which a section is read."""
    chosen_by, _, chosen = part.condition.partition(": ")
    for name, content in BASES.items():
        if not chosen_by or get(content, chosen_by) == chosen:
            yield name, content


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


def get(content: Mapping[str, Any], path: str) -> Any:
    """Returns the value at a path; None if it is not there."""
    value: Any = content
    for key in path.split("."):
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def with_value(content: Content, path: str, value: Any) -> Content:
    """Returns a copy with another value at a path; sections on the way are made."""
    key, _, rest = path.partition(".")
    inner = with_value(content.get(key) or {}, rest, value) if rest else value
    return {**content, key: inner}


def merged(one: Content, other: Content) -> Content:
    """Returns both, of which the second counts where both have a value."""
    result = copy.deepcopy(one)
    for key, value in other.items():
        both = isinstance(value, dict) and isinstance(result.get(key), dict)
        result[key] = merged(result[key], value) if both else value
    return result


BASES = {
    name: merged(yaml.safe_load(_RUN), yaml.safe_load(sections))
    for name, sections in _SECTIONS.items()
}
