"""The native code itself: one binary for both frameworks, threads, forks."""

import itertools

import jax
import pytest
import torch

from kernels import native_process
from kernels.linear_attention import equality, jax_op, torch_calls
from kernels.linear_attention.equality_jax import through_jax
from kernels.linear_attention.shapes import TEST_SIZES

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
    *(("grouped heads", name) for name in equality.FEATURES),
]
_CASES = [
    *((*pair, dtype) for pair, dtype in zip(_PAIRS, itertools.cycle(_DTYPES), strict=False)),
    *itertools.product(["odd dims"], ["elu full", "state decay"], _DTYPES),
]


@pytest.mark.parametrize(("size", "name", "dtype"), dict.fromkeys(_CASES), ids=str)
def test_frameworks_agree_bit_for_bit(size: str, name: str, dtype: torch.dtype) -> None:
    features = equality.FEATURES[name]
    case = equality.make_case(TEST_SIZES[size], features, dtype)
    sums = equality.sum_dtype(dtype)
    inputs = _cast(case.inputs, (dtype,) * 3 + (sums,) * 3)
    grads = _cast(case.grads, (dtype, sums, sums))
    torch_results = equality.through_torch(inputs, grads, features)
    jax_results = through_jax(inputs, grads, features)
    for result, expected, got in zip(equality.NAMES, torch_results, jax_results, strict=True):
        if expected is not None:
            assert torch.equal(expected, got), result


def _cast(
    tensors: tuple[torch.Tensor | None, ...], dtypes: tuple[torch.dtype, ...]
) -> list[torch.Tensor | None]:
    return [None if x is None else x.to(d) for x, d in zip(tensors, dtypes, strict=True)]


def test_results_do_not_depend_on_the_number_of_threads() -> None:
    environments = [{"HPC_NUM_THREADS": str(n)} for n in (1, 2, 5)]
    native_process.assert_same_digest(DIGEST, *environments)


def test_forked_child_computes_the_same() -> None:
    native_process.assert_forked_child_agrees(DIGEST, num_threads=2)


def test_concurrent_callers_compute_the_same() -> None:
    native_process.assert_concurrent_callers_agree(DIGEST, num_threads=2)
