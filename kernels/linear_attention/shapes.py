"""The problems that linear attention's tests and benchmark share: sizes and features."""

from typing import Any, NamedTuple

from kernels.linear_attention.contract import Sizes

# Small enough for a float64 oracle, ugly on purpose. Chunks are 64 tokens, in parts of 32.
TEST_SIZES = {
    "one token": Sizes(1, 1, 1, 1, 16, 16),
    "two tokens": Sizes(2, 2, 4, 4, 32, 32),
    "vision": Sizes(3, 17, 4, 4, 16, 16),
    "half a chunk": Sizes(1, 33, 2, 2, 32, 32),
    "one chunk": Sizes(1, 64, 2, 2, 64, 64),
    "one chunk and a token": Sizes(1, 65, 3, 3, 64, 64),
    "ragged chunks": Sizes(1, 191, 2, 2, 64, 64),
    "wide values": Sizes(2, 70, 2, 2, 16, 40),
    "wide keys": Sizes(2, 70, 2, 2, 48, 8),
    "head_dim 20": Sizes(1, 67, 2, 2, 20, 20),
    "odd dims": Sizes(1, 90, 2, 1, 7, 13),
    "head_dim 128": Sizes(1, 100, 2, 1, 128, 128),
    "head_dim 256": Sizes(1, 66, 2, 1, 256, 256),
    "grouped heads": Sizes(2, 80, 6, 2, 32, 24),
    "one key head": Sizes(1, 130, 8, 1, 24, 32),
    "long": Sizes(1, 400, 1, 1, 32, 32),
    "empty batch": Sizes(0, 5, 2, 2, 16, 16),
    "no tokens": Sizes(2, 0, 2, 2, 16, 16),
}

# The same for Triton's interpreter, which takes a millisecond for each operation on a block.
INTERPRETER_SIZES = {
    "one token": Sizes(1, 1, 1, 1, 16, 16),
    "one chunk": Sizes(1, 64, 1, 1, 32, 32),
    "one chunk and a token": Sizes(1, 65, 1, 1, 64, 64),
    "grouped heads": Sizes(1, 70, 2, 1, 16, 40),
    "odd dims": Sizes(1, 33, 1, 1, 7, 13),
    "head_dim 128": Sizes(1, 40, 1, 1, 128, 104),
    "three chunks": Sizes(1, 130, 1, 1, 24, 16),
    "empty batch": Sizes(0, 5, 2, 2, 16, 16),
    "no tokens": Sizes(1, 0, 1, 1, 16, 16),
}


class Features(NamedTuple):
    """What a test asks of linear attention besides q, k and v.

    Attributes:
      feature_map, causal, normalize, eps: as in the public function.
      decay: random decays, with their gradient.
      state: a random initial state, and the final one, with their gradients.
    """

    feature_map: str = "elu"
    causal: bool = True
    normalize: bool = True
    eps: float = 1e-6
    decay: bool = False
    state: bool = False

    def arguments(self) -> dict[str, Any]:
        """The keyword arguments of `linear_attention`, without arrays."""
        return {
            "feature_map": self.feature_map,
            "causal": self.causal,
            "normalize": self.normalize,
            "eps": self.eps,
            "return_state": self.state,
        }


# The quotient of relu features is wild where few are alike: eps tames it.
FEATURES = {
    "elu": Features(),
    "elu full": Features(causal=False),
    "relu decay": Features("relu", eps=1.0, decay=True),
    "retnet": Features("identity", normalize=False, decay=True),
    "identity full": Features("identity", causal=False, normalize=False),
    "state": Features(state=True),
    "state decay": Features(decay=True, state=True),
    "state plain": Features("relu", normalize=False, decay=True, state=True),
    "state full": Features(causal=False, state=True),
}

# Sizes that meet every form; every size meets the forms below.
FEATURE_SIZES = ("one token", "ragged chunks", "one chunk and a token", "odd dims", "grouped heads")
SIZE_FEATURES = ("elu", "elu full", "retnet", "state decay")

# (size, features), by name.
GRID = tuple(
    (size, features)
    for size in TEST_SIZES
    for features in FEATURES
    if size in FEATURE_SIZES or features in SIZE_FEATURES
)

# What models use; timed, not tested.
BENCHMARK_SIZES = {
    "vision": Sizes(64, 17, 4, 4, 32, 32),
    "512 x 64": Sizes(1, 512, 8, 8, 64, 64),
    "2048 x 64": Sizes(1, 2048, 8, 8, 64, 64),
    "8192 x 64": Sizes(1, 8192, 8, 8, 64, 64),
    "2048 x 128": Sizes(1, 2048, 8, 8, 128, 128),
    "one head": Sizes(1, 8192, 1, 1, 64, 64),
    "grouped": Sizes(1, 2048, 8, 2, 64, 64),
}
