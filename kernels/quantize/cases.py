"""Quantization's test cases and what is right for them, bit for bit; cases_jax.py runs JAX.

What a suite compares is all that the four functions give for one case, by name. The values of a
case hold every kind of block: ordinary ones, ties, zeros of both signs, the smallest and the
largest magnitudes, NaN, infinity, and magnitudes of 2^-149 beside large ones. Values are read and
summed in the dtype of the case.
"""

from typing import Any, NamedTuple, TypeAlias

import ml_dtypes
import numpy as np
import torch
from numpy.typing import NDArray

from kernels.quantize import reference, torch_op
from kernels.quantize.contract import FORMATS, Codec, Layout
from kernels.quantize.shapes import Shape
from kernels.testing.arrays import to_numpy, to_tensor

# By name: payload, residual, values, ...
Results: TypeAlias = dict[str, NDArray[Any]]

# Terms of the sums.
NUM_TERMS = 3
MULTIPLIER = 1 / 3
SEED = 0xFFFFFFFE

_DTYPES = {"float32": np.float32, "bfloat16": ml_dtypes.bfloat16, "float16": np.float16}


class Case(NamedTuple):
    """What the functions are given.

    Attributes:
      x: the values [size], of the dtype of the case.
      residual: float32 [size], or None.
      payloads: of NUM_TERMS other arrays of as many values, each in one chunk.
    """

    codec: Codec
    layout: Layout
    offset: int
    x: NDArray[Any]
    residual: NDArray[np.float32] | None
    payloads: NDArray[np.uint8]


def make_case(shape: Shape, codec: Codec, dtype: str, *, residual: bool) -> Case:
    """Makes the case of a shape; `codec` is of the block size of the shape."""
    rng = np.random.default_rng(shape.size + 1)
    x, old, *terms = (_values(rng, shape.size, codec) for _ in range(2 + NUM_TERMS))
    # Residuals are small next to the values, and finite.
    old = np.where(np.abs(old) < 1e30, old, 0.25) * np.float32(0.01)
    one = Layout(shape.size, 1, shape.size)
    payloads = [reference.quantize(t, codec, one, seed=i).payload for i, t in enumerate(terms)]
    with np.errstate(over="ignore"):
        x = x.astype(_DTYPES[dtype])
    layout = shape.layout(codec)
    return Case(codec, layout, shape.offset, x, old if residual else None, np.concatenate(payloads))


def _values(rng: np.random.Generator, size: int, codec: Codec) -> NDArray[np.float32]:
    """Values [size] with a kind of block after the other, from any of them on."""
    block = codec.block_size
    # In halves and quarters of the largest code's: ties for each format.
    largest = FORMATS[codec.format].max_value
    ties = rng.integers(-508, 509, block) * (largest / 508)
    ties[0] = largest
    wide = rng.standard_normal(block) * 2.0 ** rng.integers(-149, 3, block)
    largest_float = float(np.finfo(np.float32).max)
    spoiled = {bad: rng.standard_normal(block) for bad in (np.nan, -np.inf, largest_float)}
    for bad, values in spoiled.items():
        values[rng.integers(block)] = bad
    kinds = [
        rng.standard_normal(block),
        np.full(block, -0.0),
        ties,
        spoiled[np.nan],
        wide,
        spoiled[-np.inf],
        2.0**-101 * rng.uniform(-1, 1, block),
        rng.standard_normal(block) * 2.0**-90,
        np.where(rng.random(block) < 0.5, 0.0, -0.0) + (np.arange(block) == 3),
        spoiled[largest_float],
        rng.standard_normal(block) * 2.0**100,
        2.0**-118 * rng.uniform(-1, 1, block),
        largest_float * rng.uniform(-1, 1, block),
        2.0**-140 * rng.uniform(-1, 1, block),
    ]
    start = int(rng.integers(len(kinds)))
    count = -(-size // block)
    chosen = [kinds[(start + i) % len(kinds)] for i in range(count)]
    return np.concatenate([np.zeros(0), *chosen])[:size].astype(np.float32)


def expected(case: Case) -> Results:
    """What reference.py says."""
    codec, layout, multiplier = case.codec, case.layout, MULTIPLIER
    noise = {"seed": SEED, "offset": case.offset}
    with np.errstate(invalid="ignore", over="ignore"):
        done = reference.quantize(case.x, codec, layout, residual=case.residual, **noise)
        again = reference.reduce_quantize(
            case.payloads,
            codec,
            layout.size,
            multiplier=multiplier,
            residual=case.residual,
            **noise,
        )
        values = reference.dequantize(done.payload, codec, layout)
        total = reference.reduce(case.payloads, codec, layout.size, multiplier=multiplier)
        results: dict[str, Any] = {"payload": done.payload, "requantized": again.payload}
        if case.residual is not None:
            results |= {"residual": done.residual, "requantized residual": again.residual}
        results |= {"values": values.astype(case.x.dtype), "sum": total.astype(case.x.dtype)}
    return results


def through_torch(case: Case, device: str = "cpu") -> Results:
    """What torch_op gives for tensors on a device."""
    codec, layout = case.codec, case.layout
    x, payloads = to_tensor(case.x).to(device), torch.from_numpy(case.payloads).to(device)
    residual, again = (
        None if case.residual is None else torch.from_numpy(case.residual.copy()).to(device)
        for _ in range(2)
    )
    noise = {"seed": SEED, "offset": case.offset}
    payload = torch_op.quantize(
        x,
        codec,
        num_chunks=layout.num_chunks,
        chunk_size=layout.chunk_size,
        residual=residual,
        **noise,
    )
    requantized = torch_op.reduce_quantize(
        payloads, layout.size, codec, multiplier=MULTIPLIER, residual=again, **noise
    )
    results = {"payload": payload, "requantized": requantized}
    if residual is not None:
        results |= {"residual": residual, "requantized residual": again}
    results["values"] = torch_op.dequantize(
        payload, layout.size, codec, chunk_size=layout.chunk_size, dtype=x.dtype
    )
    results["sum"] = torch_op.reduce(
        payloads, layout.size, codec, multiplier=MULTIPLIER, dtype=x.dtype
    )
    return {name: to_numpy(x) for name, x in results.items()}
