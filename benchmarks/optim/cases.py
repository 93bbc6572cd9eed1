"""Which weights the benchmark of optimizers updates, and what those who do it are called."""

from collections.abc import Sequence
from typing import NamedTuple

TORCH, JAX = FRAMEWORKS = ("torch", "jax")

OURS, OURS_8_BITS = "ours", "ours, 8 bits"
FOREACH, FUSED = "torch foreach", "torch fused"
PYTORCH_OPTIMIZER = "pytorch-optimizer"
BITSANDBYTES, BITSANDBYTES_8_BITS = "bitsandbytes", "bitsandbytes, 8 bits"
OPTAX, OURS_IN_XLA = "optax", "ours, by XLA"

# Why a side that one would look for has no row.
MISSING = {
    "sophia, pytorch-optimizer": "its SophiaH takes no step without a graph of second derivatives",
    "sophia, optax": "its update takes the loss function, for Hutchinson's estimate",
    "adan, adabelief, sophia, bitsandbytes": "it has none",
}


class Model(NamedTuple):
    """A transformer, of which only the shapes of the weights matter."""

    name: str
    embed_dim: int
    num_layers: int
    vocabulary: int

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        """Of all weights: an embedding, and of each layer two norms, attention and an MLP."""
        e = self.embed_dim
        layer = [(e,)] * 4 + [(3 * e, e), (3 * e,), (e, e), (e,)]
        layer += [(4 * e, e), (4 * e,), (e, 4 * e), (e,)]
        return [(self.vocabulary, e), *layer * self.num_layers]


class Preset(NamedTuple):
    """Which models are updated, and the time for all sides of one of them, in seconds."""

    models: Sequence[Model]
    budget_s: float


_MODELS = (
    Model("small", 128, 6, 256),
    Model("medium", 384, 4, 1024),
    Model("large", 768, 4, 8192),
)
DEFAULT = Preset(_MODELS, 4.0)
QUICK = Preset(_MODELS[:2], 1.0)
