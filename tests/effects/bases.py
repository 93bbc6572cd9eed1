"""Small runs, one of which heeds any key, given what the key needs (`needs.py`)."""

from collections.abc import Iterator

import yaml

from base.config_reference import Part
from tests.effects.content import Content, get, merged

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
    input: {vector: {shape: [2], fourier_features: {enabled: true, num_frequencies: 3}}}
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
    "convolutions": """
data: {source: digits}
task: classification
model:
  architecture: cnn
  config:
    image: {height: 8, width: 8, num_channels: 1}
    num_classes: 10
    fourier_values: {enabled: true, num_frequencies: 2}
    fourier_coordinates: {enabled: true, num_frequencies: 2}
    stem: {width: 8}
    widths: [8, 16]
    depths: [1, 2]
    strides: [1, 2]
    block: {dropout_rate: 0.1, stochastic_depth_rate: 0.3, layer_scale: 0.5}
    squeeze_excitation: {enabled: true, ratio: 0.25}
    blur_filter_size: 3
    attention_stages: [1]
    attention:
      {kind: attention, num_heads: 4, num_kv_heads: 2, window: 3, softcap: 2.0, dropout_rate: 0.1,
       qk_norm: {enabled: true}}
    head: {dropout_rate: 0.1}
""",
    "convolutions with linear attention": """
data: {source: digits}
task: classification
model:
  architecture: cnn
  config:
    image: {height: 8, width: 8, num_channels: 1}
    num_classes: 10
    stem: {width: 8, stride: 2}
    widths: [8]
    depths: [1]
    strides: [1]
    attention_stages: [0]
    attention: {kind: linear_attention, num_heads: 4, causal: true, decay: fixed}
""",
    "convolutions with experts": """
data: {source: digits}
task: classification
model:
  architecture: cnn
  config:
    image: {height: 8, width: 8, num_channels: 1}
    num_classes: 10
    stem: {width: 8, stride: 2}
    widths: [8, 8]
    depths: [1, 2]
    strides: [1, 1]
    expert_stages: [1]
    feed_forward: {kind: gated, hidden_ratio: 1.0, dropout_rate: 0.1, hidden_multiple_of: 3}
    mixture_of_experts:
      {num_experts: 4, top_k: 2, capacity_factor: 0.5, load_balance_weight: 0.1,
       router_z_weight: 0.1, router_jitter: 0.2, router_noise: 0.2, num_shared_experts: 1}
""",
    "bottlenecks": """
data: {source: digits}
task: classification
model:
  architecture: cnn
  config:
    image: {height: 8, width: 8, num_channels: 1}
    num_classes: 10
    stem: {width: 8}
    widths: [8, 16]
    depths: [1, 3]
    strides: [1, 2]
    block: {kind: bottleneck, expansion: 2}
    norm: {kind: group, num_groups: 2}
    reversible_stages: [1]
""",
    "convolutions of a pixel": """
data:
  source: waves
  options: {layout: pixel, num_targets: 2, num_train: 40, num_test: 8}
task: regression
model:
  architecture: cnn
  config:
    image: {height: 1, width: 1, num_channels: 2}
    num_classes: 2
    stem: {width: 8}
    widths: [8]
    depths: [1]
    strides: [1]
    norm: {kind: none}
""",
}

BASES = {
    name: merged(yaml.safe_load(_RUN), yaml.safe_load(sections))
    for name, sections in _SECTIONS.items()
}


def bases(part: Part) -> Iterator[tuple[str, Content]]:
    """Yields runs, with their names, in which a section is read."""
    chosen_by, _, chosen = part.condition.partition(": ")
    for name, content in BASES.items():
        if not chosen_by or get(content, chosen_by) == chosen:
            yield name, content
