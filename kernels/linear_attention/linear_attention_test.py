"""Linear attention equals its float64 specification, forward and backward, on every backend.

One suite for all of them. The environment chooses: by itself the C++ code through torch and JAX,
with HPC_CPU_ISA its other instruction sets, with HPC_KERNEL_BACKEND=triton and TRITON_INTERPRET=1
the Triton kernels in the interpreter.
"""

import os
from collections.abc import Iterator

import jax
import pytest
import torch

from kernels.linear_attention import _native, equality
from kernels.linear_attention.contract import Sizes
from kernels.linear_attention.shapes import INTERPRETER_SIZES, TEST_SIZES

jax.config.update("jax_enable_x64", True)

if os.environ.get("HPC_KERNEL_BACKEND") == "triton":
    RUNNERS = {"triton interpreter": equality.through_torch}
    DTYPES = [torch.float32, torch.float16]
    SIZES = INTERPRETER_SIZES
else:
    RUNNERS = {
        f"c++ {_native.cpu_isa()} through torch": equality.through_torch,
        f"c++ {_native.cpu_isa()} through jax": equality.through_jax,
    }
    DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]
    SIZES = TEST_SIZES


@pytest.fixture(scope="module")
def table(request: pytest.FixtureRequest) -> Iterator[equality.Table]:
    """Collects the errors and prints them into the log, of a passing run too."""
    collected = equality.Table()
    yield collected
    with request.config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        print(collected)


@pytest.mark.parametrize("features", equality.FEATURES.values(), ids=equality.FEATURES.keys())
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES.keys())
def test_matches_float64(
    sizes: Sizes, dtype: torch.dtype, features: equality.Features, table: equality.Table
) -> None:
    case = equality.make_case(sizes, features, dtype)
    bars = equality.allowed(case)
    table.add("plain torch", dtype, equality.errors(case, equality.plain))
    for backend, run in RUNNERS.items():
        found = equality.errors(case, run)
        table.add(backend, dtype, found)
        table.compare(found, bars)
        for name, error in found.items():
            assert error <= bars[name], f"{backend}: {name} is off by {error}, not {bars[name]}"
