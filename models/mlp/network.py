"""The residual stack as a network among others."""

from typing import TYPE_CHECKING

from models.mlp.config import MlpConfig
from models.mlp.weights import weights
from models.network import Network, Signature, TensorSpec

if TYPE_CHECKING:
    import torch
    from flax import nnx


def _signature(config: MlpConfig) -> Signature:
    outputs, kind = config.num_outputs, config.head.kind
    shape = (config.seq_len, outputs) if kind == "next_token" else (outputs,)
    name = "values" if kind == "regression" else "logits"
    return Signature(config.input.spec, TensorSpec(name, "float32", shape))


def _activations(config: MlpConfig) -> int:
    """Counts what leads into each stage, and of each block what its layers multiply."""
    kept = sum(config.hidden_sizes)
    mixer, experts = config.mixer, config.mixture_of_experts
    for index, width in enumerate(config.block_widths):
        if mixer.kind != "none":
            kept += width + 2 * width * mixer.kv_heads // mixer.num_heads
        chosen = experts.top_k if experts is not None and config.has_experts(index) else 1
        kept += chosen * config.feed_forward.hidden(width)
    return config.seq_len * kept


def _flax(config: MlpConfig) -> "nnx.Module":
    from models.mlp.flax_network import Mlp

    return Mlp(config)


def _torch(config: MlpConfig) -> "torch.nn.Module":
    from models.mlp.torch_network import Mlp

    return Mlp(config)


MLP = Network(
    name="mlp",
    config=MlpConfig,
    signature=_signature,
    weights=weights,
    activations=_activations,
    size_keys=("hidden_sizes", "num_blocks"),
    flax=_flax,
    torch=_torch,
)
