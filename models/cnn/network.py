"""The convolutional network as a network among others."""

from typing import TYPE_CHECKING

from models.cnn.config import CnnConfig
from models.cnn.plan import stem_sides
from models.cnn.weights import weights
from models.network import Network, Signature, TensorSpec

if TYPE_CHECKING:
    import torch
    from flax import nnx


def _signature(config: CnnConfig) -> Signature:
    return Signature(
        TensorSpec("image", "float32", config.image_shape),
        TensorSpec("logits", "float32", (config.num_classes,)),
    )


def _activations(config: CnnConfig) -> int:
    """Counts the stem's output, and what convolutions of blocks that keep it are given."""
    height, width = stem_sides(config)
    return height * width * config.stem.width + sum(
        block.num_pixels * sum(conv.inputs for conv in block.convs)
        for stage in config.stages
        for block in stage.blocks
    )


def _flax(config: CnnConfig) -> "nnx.Module":
    from models.cnn.flax_network import Cnn

    return Cnn(config)


def _torch(config: CnnConfig) -> "torch.nn.Module":
    from models.cnn.torch_network import Cnn

    return Cnn(config)


CNN = Network(
    name="cnn",
    config=CnnConfig,
    signature=_signature,
    weights=weights,
    activations=_activations,
    size_keys=("widths", "depths"),
    min_batch_size=lambda config: config.min_batch_size,
    flax=_flax,
    torch=_torch,
)
