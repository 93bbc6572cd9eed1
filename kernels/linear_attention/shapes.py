"""The problem sizes that linear attention's tests and benchmark share."""

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
