"""What the collectives are to compute, for all ranks in one process, in numpy: an oracle for tests.

It knows neither pieces nor chunks nor owners: a vector is quantized whole.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from comm.compression import Compression, quantization_seed
from kernels.quantize import reference
from kernels.quantize.contract import Codec, Layout

Floats = NDArray[np.float32]


def gradient(rank: int, step: int, size: int) -> Floats:
    """Returns something to reduce [size]: of very different magnitudes, zeros among them."""
    random = np.random.default_rng([rank, step, size])
    scales = 10.0 ** random.integers(-6, 3, size // 100 + 1)
    scales[random.random(scales.size) < 0.2] = 0
    return (random.standard_normal(size) * np.repeat(scales, 100)[:size]).astype(np.float32)


def all_reduce(
    xs: Sequence[Floats],
    compression: Compression,
    *,
    average: bool = True,
    local: list[Floats] | None = None,
    owned: list[Floats] | None = None,
    step: int = 0,
) -> Floats:
    """Returns what every rank gets of xs, one [n] for each rank.

    Args:
        xs: float32.
        compression: Its codec and seed count.
        average: The mean; otherwise the sum.
        local: Residual [n] of each rank; replaced in the list.
        owned: A list of one: the residual [n] of the sum; replaced in the list.
        step: For the seeds.
    """
    sums = _sum(xs, compression, average, local, step)
    seed = quantization_seed(compression, step, 1, 0)
    result, residuals = _lose(sums, compression.codec, None if owned is None else owned[0], seed)
    if owned is not None:
        owned[0] = residuals
    return result


def reduce_scatter(
    xs: Sequence[Floats],
    compression: Compression,
    *,
    average: bool = True,
    local: list[Floats] | None = None,
    step: int = 0,
) -> Floats:
    """Returns the shards of all ranks, one after another; see `all_reduce`.

    Blocks start anew in every shard.
    """
    world_size = len(xs)
    shard_size = xs[0].size // world_size
    sums = np.zeros_like(xs[0])
    for shard in range(world_size):
        part = slice(shard * shard_size, (shard + 1) * shard_size)
        rest = None if local is None else [residual[part] for residual in local]
        sums[part] = _sum([x[part] for x in xs], compression, average, rest, step, part.start)
        if local is not None and rest is not None:
            for residual, new in zip(local, rest, strict=True):
                residual[part] = new
    return sums


def _sum(
    xs: Sequence[Floats],
    compression: Compression,
    average: bool,
    local: list[Floats] | None,
    step: int,
    offset: int = 0,
) -> Floats:
    total: Floats | None = None
    for rank, x in enumerate(xs):
        seed = quantization_seed(compression, step, 0, rank)
        residual = None if local is None else local[rank]
        sent, rest = _lose(x, compression.codec, residual, seed, offset)
        if local is not None:
            local[rank] = rest
        total = sent if total is None else total + sent
    assert total is not None
    return total * np.float32(1 / len(xs) if average else 1)


def _lose(
    x: Floats, codec: Codec, residual: Floats | None, seed: int, offset: int = 0
) -> tuple[Floats, Floats]:
    """Returns what is read of x when it has been quantized, and the new residual."""
    layout = Layout(x.size, 1, x.size)
    quantized = reference.quantize(x, codec, layout, residual=residual, seed=seed, offset=offset)
    rest = x if quantized.residual is None else quantized.residual
    return reference.dequantize(quantized.payload, codec, layout), rest
