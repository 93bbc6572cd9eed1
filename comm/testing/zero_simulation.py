"""What DeepSpeed is to step with when gradients are compressed, in numpy: an oracle for tests.

It knows the cut of each stage from the papers and DeepSpeed's documentation, not from the code
under test, and quantizes with the specification.
"""

import functools
import itertools

import numpy as np
import torch
from numpy.typing import NDArray

from comm.compression import Compression, quantization_seed
from kernels.quantize import reference
from kernels.quantize.contract import Layout

Floats = NDArray[np.float32]

# Longer than a piece, of odd lengths, one-dimensional, and small.
SHAPES = ((40, 50), (77,), (96, 64), (3, 5), (33, 130))
COMPRESSED = (True, False, True, False, True)
COMPRESSION = Compression(bucket_bytes=16 * 1024)
_PIECE_SIZE = 4096


def gradients(rank: int, micro_batch: int, dtype: torch.dtype) -> list[torch.Tensor]:
    """Returns a rank's gradients, one of each shape."""
    generator = torch.Generator().manual_seed(100 * micro_batch + rank)
    return [torch.randn(shape, generator=generator).to(dtype) for shape in SHAPES]


def round_to(x: Floats, dtype: torch.dtype) -> Floats:
    """Returns x rounded to another dtype."""
    return torch.from_numpy(x).to(dtype).float().numpy()


class Average:
    """The mean over ranks of one parameter's gradients, with its residuals."""

    def __init__(
        self, world_size: int, stage: int, param: int, compression: Compression = COMPRESSION
    ) -> None:
        """Starts without residuals.

        Args:
            world_size: Number of ranks.
            stage: Of ZeRO.
            param: Index of the parameter.
            compression: Its codec and seed count.
        """
        size = int(np.prod(SHAPES[param]))
        self._compression = compression
        self._begin = sum(int(np.prod(shape)) for shape in SHAPES[:param])
        self._calls = 0
        self._local = np.zeros((world_size, size), np.float32)
        self._owned = np.zeros(size, np.float32)
        self._spans = _spans(world_size, stage, param)
        self._twice = stage == 0
        self._compressed = COMPRESSED[param]

    def rescale(self, factor: float) -> None:
        """Multiplies the residuals, as a change of the loss scale multiplies gradients."""
        self._local *= np.float32(factor)
        self._owned *= np.float32(factor)

    def __call__(self, gradients: list[Floats]) -> Floats:
        """Returns the mean [n] of the ranks' gradients, as the owners of its parts have it."""
        multiplier = np.float32(1 / len(gradients))
        if not self._compressed:
            return functools.reduce(np.add, gradients) * multiplier
        codec = self._compression.codec
        seed = functools.partial(quantization_seed, self._compression, self._calls)
        self._calls += 1
        mean = np.empty_like(gradients[0])
        for start, stop in self._spans:
            part, layout = slice(start, stop), Layout(stop - start, 1, stop - start)
            payloads = []
            for rank, gradient in enumerate(gradients):
                quantized = reference.quantize(
                    gradient[part],
                    codec,
                    layout,
                    residual=self._local[rank, part],
                    seed=seed(0, rank),
                    offset=self._begin + start,
                )
                self._local[rank, part] = quantized.residual
                payloads.append(quantized.payload)
            rows = np.concatenate(payloads)
            mean[part] = reference.reduce(rows, codec, stop - start, multiplier=float(multiplier))
            if self._twice:
                again = reference.quantize(
                    mean[part],
                    codec,
                    layout,
                    residual=self._owned[part],
                    seed=seed(1, 0),
                    offset=self._begin + start,
                )
                self._owned[part] = again.residual
                mean[part] = reference.dequantize(again.payload, codec, layout)
        return mean


def _spans(world_size: int, stage: int, param: int) -> list[tuple[int, int]]:
    """(start, stop) in a parameter of what is quantized as a chunk of its own."""
    sizes = [int(np.prod(shape)) for shape in SHAPES]
    size = sizes[param]
    if stage == 0:  # pieces, each in a chunk of whole blocks for each rank: as if in one
        return [(i, min(i + _PIECE_SIZE, size)) for i in range(0, size, _PIECE_SIZE)]
    if stage == 3:  # a parameter in equal parts
        share = -(-size // world_size)
        cuts = [min(rank * share, size) for rank in range(world_size + 1)]
    else:  # all parameters, end to end and padded, in equal parts
        alignment = 2 * world_size
        share = -(-sum(sizes) // alignment) * alignment // world_size
        begin = sum(sizes[:param])
        inner = [rank * share - begin for rank in range(world_size)]
        cuts = [0, *(cut for cut in inner if 0 < cut < size), size]
    return [(a, b) for a, b in itertools.pairwise(cuts) if a < b]
