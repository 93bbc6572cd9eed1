"""A small language model that uses all that a network is given and sows all that it may."""

from typing import TYPE_CHECKING

from models.initializers import constant, normal, zeros
from models.layers.linear.weights import linear
from models.network import Network, Signature, TensorSpec, Weight, prefixed
from train.testing.sower.config import SowerConfig

if TYPE_CHECKING:
    import torch
    from flax import nnx


def _signature(config: SowerConfig) -> Signature:
    return Signature(
        TensorSpec("tokens", "int32", (config.seq_len,)),
        TensorSpec("logits", "float32", (config.seq_len, config.vocab_size)),
    )


def _weights(config: SowerConfig) -> dict[str, Weight]:
    block = {
        **prefixed("qkv", linear(config.width, 3 * config.width, bias=False)),
        **prefixed("proj", linear(config.width, config.width)),
        "gain": Weight((config.width,), constant(config.gain)),
        "mean": Weight((config.width,), zeros, trainable=False),
    }
    return {
        "tokens": Weight((config.vocab_size, config.width), normal(1.0)),
        **prefixed("block", block),
        **prefixed("head", linear(config.width, config.vocab_size)),
    }


def _flax(config: SowerConfig) -> "nnx.Module":
    from train.testing.sower.flax_network import Sower

    return Sower(config)


def _torch(config: SowerConfig) -> "torch.nn.Module":
    from train.testing.sower.torch_network import Sower

    return Sower(config)


SOWER = Network(
    name="test_sower",
    config=SowerConfig,
    signature=_signature,
    weights=_weights,
    activations=lambda config: config.seq_len * config.width,
    size_keys=("width",),
    flax=_flax,
    torch=_torch,
)
