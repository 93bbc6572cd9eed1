"""Quantization equals its specification bit for bit, on every backend.

One suite for all of them. The environment chooses: by itself the C++ code through torch and JAX,
with HPC_CPU_ISA its other instruction sets, with HPC_KERNEL_BACKEND=triton and TRITON_INTERPRET=1
the Triton kernels in the interpreter.

Every shape meets every format and rounding, with a dtype and a residual that change from one to the
next, so that any two of the five meet; one shape meets all combinations.
"""

import itertools
import os

import pytest

from kernels.quantize import contract, equality
from kernels.quantize.shapes import INTERPRETER_SHAPES, TEST_SHAPES

INTERPRETED = os.environ.get("HPC_KERNEL_BACKEND") == "triton"
SHAPES = INTERPRETER_SHAPES if INTERPRETED else TEST_SHAPES
DTYPES = ("float32", "bfloat16", "float16")
CODECS = tuple(itertools.product(contract.FORMAT_NAMES, contract.ROUNDINGS))

# It has blocks of every kind and is quick.
FULL_SHAPE = "a second row of 1 value"


def _with_dtype(shape: int, codec: int) -> tuple[str, str, str, str, bool]:
    """The case of a shape's and a codec's number: shape, format, rounding, dtype, residual."""
    format, rounding = CODECS[codec]
    residual = (shape // 3 + codec // 3) % 2 == 0
    return list(SHAPES)[shape], format, rounding, DTYPES[(shape + codec) % 3], residual


COVERING = list(itertools.starmap(_with_dtype, itertools.product(range(len(SHAPES)), range(6))))
FULL = itertools.product([FULL_SHAPE], contract.FORMAT_NAMES, contract.ROUNDINGS, DTYPES, [0, 1])


def _case(name: str, format: str, rounding: str, dtype: str, residual: bool) -> equality.Case:
    shape = SHAPES[name]
    codec = contract.codec(format, block_size=shape.block_size, rounding=rounding)
    return equality.make_case(shape, codec, dtype, residual=residual)


@pytest.mark.parametrize(
    ("name", "format", "rounding", "dtype", "residual"), dict.fromkeys([*COVERING, *FULL])
)
def test_torch_matches_the_specification(
    name: str, format: str, rounding: str, dtype: str, residual: bool
) -> None:
    case = _case(name, format, rounding, dtype, residual)
    equality.assert_same_bits(equality.through_torch(case), equality.expected(case))


# JAX compiles anew for each, and calls the same code: two of them for a shape, by itself.
if not INTERPRETED and "HPC_CPU_ISA" not in os.environ:

    @pytest.mark.parametrize("codec_step", [0, 3])
    @pytest.mark.parametrize("shape", range(len(SHAPES)), ids=SHAPES)
    def test_jax_matches_the_specification(shape: int, codec_step: int) -> None:
        case = _case(*_with_dtype(shape, (shape + codec_step) % len(CODECS)))
        equality.assert_same_bits(equality.through_jax(case), equality.expected(case))
