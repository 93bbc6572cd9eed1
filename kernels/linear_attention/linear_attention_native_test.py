"""The native code itself: one binary for both frameworks, threads, forks."""

import itertools

import jax
import pytest
import torch

from kernels.linear_attention import cases, jax_op, torch_calls, torch_op
from kernels.linear_attention.shapes import FEATURES, TEST_SIZES
from kernels.testing import native_process
from kernels.testing.accuracy import through_torch
from kernels.testing.jax_run import through_jax

jax.config.update("jax_enable_x64", True)

# Prints a digest of all results and gradients of a problem with many chunks and three heads, which
# two threads take chunk by chunk and one takes head by head.
DIGEST = """
import hashlib
import numpy as np
from kernels.linear_attention import _native

sizes = (1, 700, 3, 1, 24, 40)
options = (True, 1, True, 1e-6, 1.0)
rng = np.random.default_rng(0)
def draw(*shape):
    return rng.standard_normal(shape).astype(np.float32)
q, grad_out = draw(1, 700, 3, 24), draw(1, 700, 3, 40)
k, v = draw(1, 700, 1, 24), draw(1, 700, 1, 40)
decay, kv, k_sum = np.full((1, 3), 0.9, np.float32), draw(1, 3, 24, 40), abs(draw(1, 3, 24))
def run():
    out, factor, *final = [np.empty_like(x) for x in (grad_out, grad_out[..., 0], kv, k_sum)]
    forward = (out, factor, *final)
    grads = [np.empty_like(x) for x in (q, k, v, decay, kv, k_sum)]
    def go(function, *arrays):
        function("float32", sizes, options, [*(x.ctypes.data for x in arrays), 0])
    inputs = (q, k, v, decay, kv, k_sum)
    go(_native.forward_cpu, *inputs, *forward)
    go(_native.backward_cpu, *inputs, out, factor, grad_out, kv, k_sum, *grads)
    return hashlib.sha256(b"".join(x.tobytes() for x in (*forward, *grads))).hexdigest()
"""


def test_both_frameworks_load_one_binary() -> None:
    native_process.assert_one_binary(jax_op, torch_calls)


# What a framework hands over: every size, every form and every dtype.
_DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
_PAIRS = [
    *((size, "state decay") for size in TEST_SIZES),
    *(("grouped heads", name) for name in FEATURES),
]
_CASES = [
    *((*pair, dtype) for pair, dtype in zip(_PAIRS, itertools.cycle(_DTYPES), strict=False)),
    *itertools.product(["odd dims"], ["elu full", "state decay"], _DTYPES),
]


@pytest.mark.parametrize(("size", "features", "dtype"), dict.fromkeys(_CASES), ids=str)
def test_frameworks_agree_bit_for_bit(size: str, features: str, dtype: torch.dtype) -> None:
    case = cases.make_case(TEST_SIZES[size], dtype, FEATURES[features])
    from_torch = through_torch(case, torch_op.linear_attention)
    from_jax = through_jax(case, jax_op.linear_attention)
    assert from_torch.keys() == from_jax.keys()
    for name, expected in from_torch.items():
        assert torch.equal(expected, from_jax[name]), name


def test_results_do_not_depend_on_the_number_of_threads() -> None:
    environments = [{"HPC_NUM_THREADS": str(n)} for n in (1, 2, 5)]
    native_process.assert_same_digest(DIGEST, *environments)


def test_forked_child_computes_the_same() -> None:
    native_process.assert_forked_child_agrees(DIGEST, num_threads=2)


def test_concurrent_callers_compute_the_same() -> None:
    native_process.assert_concurrent_callers_agree(DIGEST, num_threads=2)
