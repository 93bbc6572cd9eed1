"""The problems of attention's tests: sizes and features."""

from typing import NamedTuple

from kernels.attention.contract import Sizes

# Small enough for a float64 oracle, ugly on purpose. Blocks are 64 keys and 64 or 128 queries.
TEST_SIZES = {
    "one token": Sizes(1, 1, 1, 1, 1, 16),
    "one query": Sizes(2, 1, 77, 4, 4, 32),
    "one key": Sizes(2, 77, 1, 4, 4, 32),
    "vision": Sizes(3, 17, 17, 4, 4, 16),
    "exact blocks": Sizes(1, 128, 128, 2, 2, 64),
    "ragged blocks": Sizes(1, 129, 191, 2, 2, 64),
    "more queries": Sizes(2, 130, 70, 2, 2, 32),
    "more keys": Sizes(2, 70, 200, 2, 2, 32),
    "head_dim 20": Sizes(1, 67, 67, 2, 2, 20),
    "head_dim 40": Sizes(2, 33, 65, 2, 2, 40),
    "head_dim 128": Sizes(1, 65, 66, 2, 1, 128),
    "head_dim 256": Sizes(1, 66, 65, 2, 1, 256),
    "grouped heads": Sizes(2, 65, 65, 6, 2, 32),
    "one key head": Sizes(1, 40, 100, 8, 1, 24),
    "long": Sizes(1, 300, 700, 2, 1, 32),
    "empty batch": Sizes(0, 5, 7, 2, 2, 16),
    "no queries": Sizes(2, 0, 7, 2, 2, 16),
    "no keys": Sizes(2, 5, 0, 2, 2, 16),
}

# The same for Triton's interpreter, which takes a millisecond for each operation on a block. Blocks
# are those of the cubins: 16 to 128 queries and keys.
INTERPRETER_SIZES = {
    "one token": Sizes(1, 1, 1, 1, 1, 16),
    "one query": Sizes(1, 1, 140, 2, 1, 32),
    "one key": Sizes(1, 70, 1, 1, 1, 32),
    "vision": Sizes(1, 17, 17, 2, 2, 16),
    "more queries": Sizes(1, 130, 66, 1, 1, 40),
    "more keys": Sizes(1, 18, 70, 2, 1, 16),
    "head_dim 128": Sizes(1, 65, 34, 1, 1, 128),
    "head_dim 256": Sizes(1, 18, 35, 2, 1, 256),
    "grouped heads": Sizes(2, 17, 35, 4, 2, 32),
    "empty batch": Sizes(0, 5, 7, 2, 2, 16),
    "no queries": Sizes(2, 0, 7, 2, 2, 16),
    "no keys": Sizes(2, 5, 0, 2, 2, 16),
}


class Features(NamedTuple):
    """What a test asks of attention besides q, k and v, in the terms of the public function.

    Attributes:
      causal, softmax_scale, window, softcap, dropout_rate: as there.
      alibi: random slopes, with their gradient.
      rope: None, "half", "interleaved", or "partial": tables for some of the channels.
      segments: a few random segments and some padding.
    """

    causal: bool = False
    softmax_scale: float | None = None
    alibi: bool = False
    rope: str | None = None
    window: tuple[int | None, int | None] | None = None
    segments: bool = False
    softcap: float | None = None
    dropout_rate: float = 0.0


FULL = Features()

FEATURES = {
    "full": FULL,
    "causal": Features(causal=True),
    "scale": Features(softmax_scale=-0.3),
    "alibi": Features(alibi=True),
    "alibi causal": Features(alibi=True, causal=True),
    "rope": Features(rope="half"),
    "rope interleaved causal": Features(rope="interleaved", causal=True),
    "rope partial": Features(rope="partial"),
    "window": Features(window=(9, 4)),
    "window left": Features(window=(20, None)),
    "window right": Features(window=(None, 20)),
    "window causal": Features(window=(30, None), causal=True),
    "window of one": Features(window=(0, 0)),
    "segments": Features(segments=True),
    "segments causal": Features(segments=True, causal=True),
    "softcap": Features(softcap=1.5),
    "dropout": Features(dropout_rate=0.3),
    "dropout causal": Features(dropout_rate=0.3, causal=True),
    "all": Features(True, 0.2, True, "half", (60, None), True, 2.0, 0.2),
    "all but causal": Features(False, 0.2, True, "partial", (50, 70), True, 2.0, 0.2),
}

# Sizes that meet every feature; every size meets the features below.
FEATURE_SIZES = (
    "one token",
    "vision",
    "ragged blocks",
    "more queries",
    "more keys",
    "grouped heads",
)
SIZE_FEATURES = ("full", "causal", "all", "all but causal")

# (size, features), by name.
GRID = tuple(
    (size, features)
    for size in TEST_SIZES
    for features in FEATURES
    if size in FEATURE_SIZES or features in SIZE_FEATURES
)
