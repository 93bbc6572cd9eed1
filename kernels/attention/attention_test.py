"""Attention equals its float64 specification, forward and backward, on every backend.

One suite for all of them. The environment chooses: by itself the C++ code through torch, with
HPC_CPU_ISA its other instruction sets, with HPC_KERNEL_BACKEND=triton and TRITON_INTERPRET=1 the
Triton kernels in the interpreter. attention_native_test.py shows that JAX gets the same bits.

The dtype changes from one case to the next; on the CPU any two of size, features and dtype meet.
"""

import itertools
import os
from collections.abc import Iterator

import pytest
import torch

from kernels.attention import _native, equality
from kernels.attention.shapes import FEATURES, GRID, INTERPRETER_SIZES, TEST_SIZES


def _missing_instructions() -> str:
    """What HPC_CPU_ISA asks for in vain on this CPU."""
    try:
        _native.cpu_isa()
    except ValueError as error:
        return str(error)
    return ""


MISSING = _missing_instructions()
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
    DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]
    CASES = []
    if ISA not in ("avx512", "avx512_bf16"):
        CASES += [
            (size, features, DTYPES[(i + j) % 4])
            for i, size in enumerate(SIZES)
            for j, features in enumerate(FEATURES)
            if (size, features) in GRID
        ]
    if ISA not in ("avx2", "generic"):
        # AVX-512 has code for it alone, of three kinds, which differ in nothing else.
        CASES += [(*names, torch.bfloat16) for names in GRID]
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
    case = equality.make_case(SIZES[size], dtype, FEATURES[features])
    expected = equality.expect(case)
    plain_errors = equality.errors(case, equality.plain, expected)
    bars = equality.allowed(case, expected, plain_errors)
    found = equality.errors(case, equality.through_torch, expected)
    table.add("plain torch", dtype, plain_errors)
    table.add(BACKEND, dtype, found)
    table.compare(f"{size}, {features}, {dtype}", found, bars)
    for name, error in found.items():
        assert error <= bars[name], f"{name} is off by {error}, not {bars[name]}"
