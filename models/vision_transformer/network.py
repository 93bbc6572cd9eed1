"""The vision transformer as a network among others."""

from typing import TYPE_CHECKING

from models.network import Network, Signature, TensorSpec
from models.vision_transformer.config import VisionTransformerConfig
from models.vision_transformer.weights import weights

if TYPE_CHECKING:
    import torch
    from flax import nnx


def _signature(config: VisionTransformerConfig) -> Signature:
    return Signature(
        TensorSpec("image", "float32", config.image_shape),
        TensorSpec("logits", "float32", (config.num_classes,)),
    )


def _activations(config: VisionTransformerConfig) -> int:
    """Counts queries, keys and values, and the hidden layer, of every token in every block."""
    return config.seq_len * config.num_layers * (3 * config.embed_dim + config.mlp_dim)


def _flax(config: VisionTransformerConfig) -> "nnx.Module":
    from flax import nnx

    from models.vision_transformer.flax_network import VisionTransformer

    return VisionTransformer(config, rngs=nnx.Rngs(0))


def _torch(config: VisionTransformerConfig) -> "torch.nn.Module":
    from models.vision_transformer.torch_network import VisionTransformer

    return VisionTransformer(config)


VISION_TRANSFORMER = Network(
    name="vision_transformer",
    config=VisionTransformerConfig,
    signature=_signature,
    weights=weights,
    activations=_activations,
    size_keys=("embed_dim", "mlp_ratio", "num_layers"),
    flax=_flax,
    torch=_torch,
)
