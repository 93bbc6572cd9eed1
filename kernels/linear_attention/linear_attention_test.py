"""Linear attention equals its float64 specification, forward and backward, on every backend.

One suite for all of them. The environment chooses: by itself the C++ code through torch, with
HPC_CPU_ISA its other instruction sets, with HPC_KERNEL_BACKEND=triton and TRITON_INTERPRET=1 the
Triton kernels in the interpreter. linear_attention_native_test.py shows that JAX gets the same
bits.

The dtype changes from one case to the next; on the CPU any two of size, features and dtype meet.
"""

import itertools
import os

import pytest
import torch

from kernels.linear_attention import _native, cases, torch_op
from kernels.linear_attention.contract import CHUNK
from kernels.linear_attention.shapes import FEATURES, GRID, INTERPRETER_SIZES, TEST_SIZES
from kernels.testing import error_table
from kernels.testing.accuracy import DTYPES, Case, covering, through_torch
from kernels.testing.error_table import ErrorTable
from kernels.testing.torch_run import Tensors

# (size, features, dtype). Of the interpreter few: it takes a third of a second for each.
if os.environ.get("HPC_KERNEL_BACKEND") == "triton":
    BACKEND = "triton interpreter"
    SIZES = INTERPRETER_SIZES
    CASES = [
        *itertools.product(SIZES, ["elu full"], [torch.float16]),
        *itertools.product(SIZES, ["state decay"], [torch.float32]),
        *itertools.product(["one chunk and a token"], FEATURES, [torch.float32]),
        *itertools.product(["odd dims"], FEATURES, [torch.float16]),
    ]
else:
    BACKEND = f"c++ {_native.cpu_isa()}"
    SIZES = TEST_SIZES
    CASES = covering(SIZES, FEATURES, GRID)
    CASES += itertools.product(["odd dims"], FEATURES, DTYPES)
CASES = list(dict.fromkeys(CASES))


table = error_table.fixture()


def _through_torch(case: Case) -> Tensors:
    return through_torch(case, torch_op.linear_attention)


@pytest.mark.parametrize(("size", "features", "dtype"), CASES, ids=str)
def test_matches_float64(size: str, features: str, dtype: torch.dtype, table: ErrorTable) -> None:
    case = cases.make_case(SIZES[size], dtype, FEATURES[features])
    table.check(f"{size}, {features}", case, {BACKEND: _through_torch})


# What is not finite in one token, and the results of the tokens that it does not concern: those
# before a key, those after a query.
ODD = {
    "k": (float("inf"), ("out", "grad_q")),
    "v": (float("-inf"), ("out", "grad_q")),
    "q": (float("nan"), ("grad_k", "grad_v")),
    "grad_out": (float("inf"), ("grad_k", "grad_v")),
}


@pytest.mark.parametrize("where", ODD)
def test_odd_token_shows_where_it_is_seen_and_only_there(where: str) -> None:
    """In the Triton kernels, in all of its chunk."""
    token = 70
    case = cases.make_case(INTERPRETER_SIZES["three chunks"], torch.float32, FEATURES["elu"])
    want = _through_torch(case)
    value, names = ODD[where]
    spoiled = case.cotangents["out"] if where == "grad_out" else case.inputs[where]
    spoiled[0, token, 0, 3] = value
    got = _through_torch(case)
    in_chunks = BACKEND == "triton interpreter"
    before = slice(0, CHUNK if in_chunks else token)
    after = slice(2 * CHUNK if in_chunks else token + 1, None)
    unseen = before if "out" in names else after
    for name in names:
        assert torch.equal(got[name][:, unseen], want[name][:, unseen]), name
    assert not got["grad_v" if where == "grad_out" else "out"][:, token].isfinite().all()
