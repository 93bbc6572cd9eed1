"""Which networks the benchmark of memory trains, and how each keeps or recomputes activations."""

from collections.abc import Callable
from typing import Any, NamedTuple

TORCH, JAX = FRAMEWORKS = ("torch", "jax")

DEPTHS = (8, 16, 32, 64, 128)
QUICK_DEPTHS = (4, 8)

BATCH_SIZE = 16

TRANSFORMER, CNN = "transformer", "cnn"
PLAIN = "ordinary"
ATTENTION, FULL = "checkpointing: attention", "checkpointing: full"
REVERSIBLE = "reversible"

_WIDTH = 32
_SIDE = 16


class Way(NamedTuple):
    """One way to train a network of any number of blocks.

    Attributes:
      network: which, by our name for it here.
      side: the way's name.
      architecture: of `models.architecture`.
      config: number of blocks -> its configuration.
      checkpointing: the policy.
    """

    network: str
    side: str
    architecture: str
    config: Callable[[int], dict[str, Any]]
    checkpointing: str = "none"


def _transformer(depth: int) -> dict[str, Any]:
    return {
        "input": {"tokens": {"vocab_size": 256, "seq_len": 64}},
        "hidden_sizes": [_WIDTH],
        "num_blocks": depth,
        "activation": "identity",
        "mixer": {"kind": "attention", "num_heads": 2},
        "num_classes": 10,
    }


def _cnn(depth: int) -> dict[str, Any]:
    return {
        "image": {"height": _SIDE, "width": _SIDE, "num_channels": 1},
        "num_classes": 10,
        "stem": {"width": _WIDTH},
        "widths": [_WIDTH],
        "depths": [depth],
        "strides": [1],
    }


WAYS = (
    Way(TRANSFORMER, PLAIN, "mlp", _transformer),
    Way(TRANSFORMER, ATTENTION, "mlp", _transformer, "attention"),
    Way(TRANSFORMER, FULL, "mlp", _transformer, "full"),
    Way(CNN, PLAIN, "cnn", _cnn),
    Way(CNN, FULL, "cnn", _cnn, "full"),
    Way(CNN, REVERSIBLE, "cnn", lambda depth: _cnn(depth) | {"reversible_stages": [0]}),
)

# Bytes of what goes into a block, float32: of so many tokens, or pixels.
INPUT_BYTES = {
    TRANSFORMER: 4 * BATCH_SIZE * 64 * _WIDTH,
    CNN: 4 * BATCH_SIZE * _SIDE**2 * _WIDTH,
}
