"""The problem sizes that quantization's tests and benchmark share."""

from typing import NamedTuple

from kernels.quantize.contract import Codec, Layout


class Shape(NamedTuple):
    """An array and how it is cut.

    Attributes:
      size: values.
      num_chunks: rows of its payload.
      block_size: values that share a scale.
      chunk_size: values of a chunk; None: equal chunks of whole blocks.
      offset: index of the first value in the whole vector.
    """

    size: int
    num_chunks: int = 1
    block_size: int = 256
    chunk_size: int | None = None
    offset: int = 0

    def layout(self, codec: Codec) -> Layout:
        """How the values lie in the payload."""
        chunk_size = self.chunk_size
        if chunk_size is None:
            chunk_size = codec.chunk_size(self.size, self.num_chunks)
        return Layout(self.size, self.num_chunks, chunk_size)


# Small enough for numpy, ugly on purpose. Vectors are 4, 8 and 16 values, blocks from 64 on, panels
# of sums 4096 and tasks 32768.
TEST_SHAPES = {
    "nothing": Shape(0),
    "nothing in 3 chunks": Shape(0, num_chunks=3),
    "one value": Shape(1),
    "one value, smallest block": Shape(1, block_size=64),
    "63 values": Shape(63, block_size=64),
    "64 values": Shape(64, block_size=64),
    "65 values": Shape(65, block_size=64),
    "255 values": Shape(255),
    "a block": Shape(256),
    "257 values": Shape(257, num_chunks=2),
    "chunks beyond the end": Shape(300, num_chunks=7),
    "1000 values": Shape(1000, num_chunks=3, block_size=64),
    "a second row of 1 value": Shape(1001, num_chunks=2, chunk_size=1000, block_size=64),
    "chunks of broken blocks": Shape(1000, num_chunks=4, chunk_size=251, block_size=128),
    "chunks of 1": Shape(5, num_chunks=7, chunk_size=1),
    "room to spare": Shape(700, num_chunks=2, chunk_size=900, block_size=128),
    "largest block": Shape(4096 * 3 + 17, num_chunks=2, block_size=4096),
    "half a largest block": Shape(2048, block_size=4096),
    "blocks of 512": Shape(4096 * 2 + 17, num_chunks=2, block_size=512),
    "several tasks": Shape(70001, num_chunks=2),
    "offset across 2^32": Shape(3000, num_chunks=2, block_size=1024, offset=2**32 - 777),
    "offset beyond 2^40": Shape(2000, num_chunks=1, block_size=2048, offset=2**40 + 5),
}

# The same for Triton's interpreter, which takes a millisecond for each operation on a tile.
INTERPRETER_SHAPES = {
    name: TEST_SHAPES[name]
    for name in (
        "nothing in 3 chunks",
        "one value, smallest block",
        "65 values",
        "chunks beyond the end",
        "a second row of 1 value",
        "chunks of broken blocks",
        "largest block",
        "blocks of 512",
        "offset across 2^32",
    )
}
