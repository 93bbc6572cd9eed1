"""Quantization equals its specification bit for bit, on every backend.

One suite for all of them. The environment chooses: by itself the C++ code through torch, with
HPC_CPU_ISA its other instruction sets, with HPC_KERNEL_BACKEND=triton and TRITON_INTERPRET=1 the
Triton kernels in the interpreter. quantize_jax_test.py shows that JAX gets the same bits.

Every shape meets every format and rounding, with a dtype and a residual that change from one to the
next, so that any two of the five meet; in C++ one shape meets all combinations.
"""

import itertools
import os

import pytest

from kernels.quantize import cases, contract
from kernels.quantize.shapes import INTERPRETER_SHAPES, TEST_SHAPES
from kernels.testing.arrays import assert_same_bits

INTERPRETED = os.environ.get("HPC_KERNEL_BACKEND") == "triton"
SHAPES = INTERPRETER_SHAPES if INTERPRETED else TEST_SHAPES
DTYPES = ("float32", "bfloat16", "float16")
CODECS = tuple(itertools.product(contract.FORMAT_NAMES, contract.ROUNDINGS))

# It has blocks of every kind and is quick, except in the interpreter.
FULL_SHAPES = [] if INTERPRETED else ["a second row of 1 value"]


def _with_dtype(shape: int, codec: int) -> tuple[str, str, str, str, bool]:
    """The case of a shape's and a codec's number: shape, format, rounding, dtype, residual."""
    format, rounding = CODECS[codec]
    residual = (shape // 3 + codec // 3) % 2 == 0
    return list(SHAPES)[shape], format, rounding, DTYPES[(shape + codec) % 3], residual


COVERING = list(itertools.starmap(_with_dtype, itertools.product(range(len(SHAPES)), range(6))))
FULL = itertools.product(FULL_SHAPES, contract.FORMAT_NAMES, contract.ROUNDINGS, DTYPES, [0, 1])


@pytest.mark.parametrize(
    ("name", "format", "rounding", "dtype", "residual"), dict.fromkeys([*COVERING, *FULL])
)
def test_matches_the_specification(
    name: str, format: str, rounding: str, dtype: str, residual: bool
) -> None:
    shape = SHAPES[name]
    codec = contract.codec(format, block_size=shape.block_size, rounding=rounding)
    case = cases.make_case(shape, codec, dtype, residual=residual)
    assert_same_bits(cases.through_torch(case), cases.expected(case))
