"""Linear attention equals its float64 specification, forward and backward, on every backend.

One suite for all of them. The environment chooses: by itself the C++ code through torch, with
HPC_CPU_ISA its other instruction sets, with HPC_KERNEL_BACKEND=triton and TRITON_INTERPRET=1 the
Triton kernels in the interpreter. linear_attention_native_test.py shows that JAX gets the same
bits.

The dtype changes from one case to the next; on the CPU any two of size, features and dtype meet.
"""

import itertools
import os
from collections.abc import Iterator

import pytest
import torch

from kernels.linear_attention import _native, equality
from kernels.linear_attention.contract import CHUNK
from kernels.linear_attention.shapes import INTERPRETER_SIZES, TEST_SIZES

# (size, features, dtype). Of the interpreter few: it takes a third of a second for each.
if os.environ.get("HPC_KERNEL_BACKEND") == "triton":
    BACKEND = "triton interpreter"
    SIZES = INTERPRETER_SIZES
    CASES = [
        *itertools.product(SIZES, ["elu full"], [torch.float16]),
        *itertools.product(SIZES, ["state decay"], [torch.float32]),
        *itertools.product(["one chunk and a token"], equality.FEATURES, [torch.float32]),
        *itertools.product(["odd dims"], equality.FEATURES, [torch.float16]),
    ]
else:
    BACKEND = f"c++ {_native.cpu_isa()}"
    SIZES = TEST_SIZES
    DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]
    CASES = [
        (size, features, DTYPES[(i + j) % 4])
        for i, size in enumerate(SIZES)
        for j, features in enumerate(equality.FEATURES)
        if (size, features) in equality.GRID
    ]
    CASES += itertools.product(["odd dims"], equality.FEATURES, DTYPES)
CASES = list(dict.fromkeys(CASES))


@pytest.fixture(scope="module")
def table(request: pytest.FixtureRequest) -> Iterator[equality.Table]:
    """Collects the errors and prints them into the log, of a passing run too."""
    collected = equality.Table()
    yield collected
    with request.config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        print(collected)


@pytest.mark.parametrize(("size", "features", "dtype"), CASES, ids=str)
def test_matches_float64(
    size: str, features: str, dtype: torch.dtype, table: equality.Table
) -> None:
    case = equality.make_case(SIZES[size], equality.FEATURES[features], dtype)
    expected = equality.expect(case)
    plain_errors = equality.errors(case, equality.plain, expected)
    bars = equality.allowed(case, expected, plain_errors)
    found = equality.errors(case, equality.through_torch, expected)
    table.add("plain torch", dtype, plain_errors)
    table.add(BACKEND, dtype, found)
    table.compare(found, bars)
    for name, error in found.items():
        assert error <= bars[name], f"{name} is off by {error}, not {bars[name]}"


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
    token, features = 70, equality.FEATURES["elu"]
    case = equality.make_case(INTERPRETER_SIZES["three chunks"], features, torch.float32)
    arrays = (*case.inputs[:3], case.grads[0])
    leaves = {
        n: x.float()
        for n, x in zip(("q", "k", "v", "grad_out"), arrays, strict=True)
        if x is not None
    }

    def run() -> dict[str, torch.Tensor]:
        *inputs, grad_out = leaves.values()
        results = equality.through_torch((*inputs, None, None, None), (grad_out,), features)
        return {n: x for n, x in zip(equality.NAMES, results, strict=True) if x is not None}

    want = run()
    value, names = ODD[where]
    leaves[where][0, token, 0, 3] = value
    got = run()
    in_chunks = BACKEND == "triton interpreter"
    before = slice(0, CHUNK if in_chunks else token)
    after = slice(2 * CHUNK if in_chunks else token + 1, None)
    unseen = before if "out" in names else after
    for name in names:
        assert torch.equal(got[name][:, unseen], want[name][:, unseen]), name
    assert not got["grad_v" if where == "grad_out" else "out"][:, token].isfinite().all()
