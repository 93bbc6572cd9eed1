"""The problem sizes that attention's tests and benchmark share."""

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
    "long": Sizes(1, 700, 700, 2, 1, 32),
    "empty batch": Sizes(0, 5, 7, 2, 2, 16),
    "no queries": Sizes(2, 0, 7, 2, 2, 16),
    "no keys": Sizes(2, 5, 0, 2, 2, 16),
}

# What models use; timed, not tested.
BENCHMARK_SIZES = {
    "vision": Sizes(64, 17, 17, 4, 4, 32),
    "256 x 32": Sizes(4, 256, 256, 8, 8, 32),
    "256 x 64": Sizes(4, 256, 256, 8, 8, 64),
    "1024 x 32": Sizes(2, 1024, 1024, 8, 8, 32),
    "1024 x 64": Sizes(2, 1024, 1024, 8, 8, 64),
    "grouped": Sizes(1, 1024, 1024, 8, 2, 64),
}
