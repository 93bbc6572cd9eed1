"""Quantization equals its specification bit for bit, on every backend.

One suite for all of them. The environment chooses: by itself the C++ code through torch and JAX,
with HPC_CPU_ISA its other instruction sets, with HPC_KERNEL_BACKEND=triton and TRITON_INTERPRET=1
the Triton kernels in the interpreter.
"""

import os

import pytest

from kernels.quantize import contract, equality
from kernels.quantize.shapes import INTERPRETER_SHAPES, TEST_SHAPES, Shape

INTERPRETED = os.environ.get("HPC_KERNEL_BACKEND") == "triton"
SHAPES = INTERPRETER_SHAPES if INTERPRETED else TEST_SHAPES


@pytest.mark.parametrize("residual", [False, True], ids=["", "residual"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("rounding", contract.ROUNDINGS)
@pytest.mark.parametrize("format", contract.FORMAT_NAMES)
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_torch_matches_the_specification(
    shape: Shape, format: str, rounding: str, dtype: str, residual: bool
) -> None:
    codec = contract.codec(format, block_size=shape.block_size, rounding=rounding)
    case = equality.make_case(shape, codec, dtype, residual=residual)
    equality.assert_same_bits(equality.through_torch(case), equality.expected(case))


# JAX compiles anew for each: fewer of them, since the code that runs is the same.
if not INTERPRETED:

    @pytest.mark.parametrize("rounding", contract.ROUNDINGS)
    @pytest.mark.parametrize("format", contract.FORMAT_NAMES)
    @pytest.mark.parametrize("name", SHAPES)
    def test_jax_matches_the_specification(name: str, format: str, rounding: str) -> None:
        shape = SHAPES[name]
        codec = contract.codec(format, block_size=shape.block_size, rounding=rounding)
        which = list(SHAPES).index(name)
        dtype = ("float32", "bfloat16", "float16")[which % 3]
        case = equality.make_case(shape, codec, dtype, residual=which % 2 == 0)
        equality.assert_same_bits(equality.through_jax(case), equality.expected(case))
