"""Attention equals its float64 specification, forward and backward, on every backend.

One suite for all of them. The environment chooses: by itself the C++ code through torch, with
HPC_CPU_ISA its other instruction sets, with HPC_KERNEL_BACKEND=triton and TRITON_INTERPRET=1 the
Triton kernels in the interpreter. attention_native_test.py shows that JAX gets the same bits.

The dtype changes from one case to the next; on the CPU any two of size, features and dtype meet.
"""

import itertools
import os

import pytest
import torch

from kernels.attention import _native, cases, torch_op
from kernels.attention.shapes import FEATURES, GRID, INTERPRETER_SIZES, TEST_SIZES
from kernels.testing import error_table, instruction_sets
from kernels.testing.accuracy import Case, covering, through_torch
from kernels.testing.error_table import ErrorTable
from kernels.testing.torch_run import Tensors

MISSING = instruction_sets.missing(_native)
pytestmark = pytest.mark.skipif(bool(MISSING), reason=MISSING)

ISA = os.environ.get("HPC_CPU_ISA")

# (size, features, dtype). Of the interpreter few: it takes a third of a second for each.
if os.environ.get("HPC_KERNEL_BACKEND") == "triton":
    BACKEND = "triton interpreter"
    SIZES = INTERPRETER_SIZES
    # Where queries are more than keys, the first see nothing.
    WINDOWS = [name for name, f in FEATURES.items() if f.causal or f.window]
    CASES = [
        *itertools.product(SIZES, ["causal"], [torch.float32]),
        *itertools.product(SIZES, ["all but causal"], [torch.float16]),
        *itertools.product(["more keys"], FEATURES, [torch.float32]),
        *itertools.product(["more queries"], WINDOWS, [torch.float16]),
        ("one query", "rope interleaved causal", torch.float32),
    ]
else:
    BACKEND = MISSING or f"c++ {_native.cpu_isa()}, matrix {_native.matrix_isa()}"
    SIZES = TEST_SIZES
    CASES = []
    if ISA not in ("avx512", "avx512_bf16"):
        CASES += covering(SIZES, FEATURES, GRID)
    if ISA not in ("avx2", "generic"):
        # AVX-512 has code for it alone, of three kinds, which differ in nothing else.
        CASES += [(*names, torch.bfloat16) for names in GRID]
CASES = list(dict.fromkeys(CASES))


table = error_table.fixture()


def _through_torch(case: Case) -> Tensors:
    return through_torch(case, torch_op.attention)


@pytest.mark.parametrize(("size", "features", "dtype"), CASES, ids=str)
def test_matches_float64(size: str, features: str, dtype: torch.dtype, table: ErrorTable) -> None:
    case = cases.make_case(SIZES[size], dtype, FEATURES[features])
    table.check(f"{size}, {features}", case, {BACKEND: _through_torch})
