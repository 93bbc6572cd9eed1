"""The native code itself: one binary for both frameworks, threads, forks, accuracy of exp2."""

import itertools
import os

import jax
import numpy as np
import pytest
import torch

from kernels.attention import _native, cases, jax_op, reference, torch_op
from kernels.attention.contract import Options, Sizes
from kernels.attention.shapes import FEATURES, TEST_SIZES
from kernels.testing import native_process
from kernels.testing.accuracy import through_torch
from kernels.testing.jax_run import through_jax

jax.config.update("jax_enable_x64", True)

# What simd-inl.h promises of Exp2.
EXP2_MAX_ULP = 2.0

# Digests of the results of problems with many tasks in every phase: a causal one of two key heads,
# one with every feature, and a decoding step whose query heads share a block.
DIGEST = """
import hashlib
import numpy as np
from kernels.attention import _native
from kernels.attention.rope import rope_tables

def run_one(sizes, options, features):
    batch, seq_q, seq_k, num_heads, num_kv_heads, head_dim = sizes
    rng = np.random.default_rng(0)
    def draw(*shape):
        return rng.standard_normal(shape).astype(np.float32)
    q, grad_out = draw(batch, seq_q, num_heads, head_dim), draw(batch, seq_q, num_heads, head_dim)
    k, v = (draw(batch, seq_k, num_kv_heads, head_dim) for _ in range(2))
    lse = np.empty((batch, num_heads, seq_q), np.float32)
    extras = [None] * 6
    if features:
        tables = rope_tables(max(seq_q, seq_k), options[5])
        extras = [np.abs(draw(batch, num_heads)), *(t.astype(np.float32) for t in tables)]
        extras += [np.arange(batch * s, dtype=np.int32).reshape(batch, s) // 150 % 3
                   for s in (seq_q, seq_k)]
        extras.append(np.arange(batch, dtype=np.uint32))
    out, lse, grad_q, grad_k, grad_v, delta = results = [
        np.full_like(x, np.nan) for x in (q, lse, q, k, v, lse)]
    slopes = np.full_like(lse, np.nan) if features else None
    def go(function, *arrays):
        addresses = [0 if x is None else x.ctypes.data for x in (*arrays, None, None, *extras)]
        function("float32", sizes, options, addresses)
    go(_native.forward_cpu, q, k, v, out, lse)
    go(_native.backward_cpu, q, k, v, out, lse, grad_out, None, grad_q, grad_k, grad_v, slopes,
       delta)
    assert not any(np.isnan(x).any() for x in results)
    return b"".join(x.tobytes() for x in (*results, *([slopes] if features else [])))

def run():
    problems = [
        ((2, 300, 700, 4, 2, 40), (0.3, -1, 0, 0.0, 0.0, 0, False), False),
        ((2, 300, 700, 4, 2, 40), (0.3, 400, 60, 5.0, 0.2, 32, True), True),
        ((1, 3, 900, 12, 2, 64), (0.3, -1, 0, 0.0, 0.0, 0, False), False),
    ]
    return hashlib.sha256(b"".join(run_one(*problem) for problem in problems)).hexdigest()
"""


def test_both_frameworks_load_one_binary() -> None:
    native_process.assert_one_binary(jax_op, torch_op)


# What a framework hands over: every size, every feature and every dtype.
_DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
_PAIRS = [
    *((size, "all but causal") for size in TEST_SIZES),
    *(("grouped heads", features) for features in FEATURES),
]
_CASES = [
    *((*pair, dtype) for pair, dtype in zip(_PAIRS, itertools.cycle(_DTYPES), strict=False)),
    *itertools.product(["more keys"], ["full", "all"], _DTYPES),
]


@pytest.mark.parametrize(("size", "features", "dtype"), dict.fromkeys(_CASES), ids=str)
def test_frameworks_agree_bit_for_bit(size: str, features: str, dtype: torch.dtype) -> None:
    case = cases.make_case(TEST_SIZES[size], dtype, FEATURES[features])
    from_torch = through_torch(case, torch_op.attention)
    from_jax = through_jax(case, jax_op.attention)
    assert from_torch.keys() == from_jax.keys()
    for name, expected in from_torch.items():
        assert torch.equal(expected, from_jax[name]), name


def test_threads_follow_the_framework(monkeypatch: pytest.MonkeyPatch) -> None:
    q = torch.ones(1, 4, 1, 8)
    for count in (2, 1):
        monkeypatch.setattr(torch, "get_num_threads", lambda count=count: count)
        torch_op.attention(q, q, q)
        assert _native.num_threads() == min(count, len(os.sched_getaffinity(0)))


def test_threads_that_are_set_stay() -> None:
    program = "_native.limit_threads(1); print(_native.num_threads())"
    done = native_process.python(
        f"from kernels.attention import _native; {program}", HPC_NUM_THREADS="3"
    )
    assert done.stdout == "3\n"


def test_results_do_not_depend_on_the_number_of_threads() -> None:
    environments = [{"HPC_NUM_THREADS": str(n)} for n in (1, 2, 5)]
    native_process.assert_same_digest(DIGEST, *environments)


def test_forked_child_computes_the_same() -> None:
    native_process.assert_forked_child_agrees(DIGEST, num_threads=3)


def test_concurrent_callers_compute_the_same() -> None:
    native_process.assert_concurrent_callers_agree(DIGEST, num_threads=3)


@pytest.mark.parametrize("value", ["0", "-1", "two", "1.5", "999999999999999999999"])
def test_bad_number_of_threads_is_named(value: str) -> None:
    done = native_process.python(
        "from kernels.attention import _native; _native.num_threads()", HPC_NUM_THREADS=value
    )
    assert "ValueError: HPC_NUM_THREADS must be an integer from 1 to" in done.stderr
    assert value in done.stderr


def test_bad_instruction_set_is_named() -> None:
    done = native_process.python(
        "from kernels.attention import _native; _native.cpu_isa()", HPC_CPU_ISA="sse9"
    )
    assert "HPC_CPU_ISA must be" in done.stderr
    assert "got 'sse9'" in done.stderr


def _exp2(x: np.ndarray) -> np.ndarray:
    out = np.empty_like(x)
    _native.exp2_cpu(x.ctypes.data, x.size, out.ctypes.data)
    return out


def test_exp2_is_accurate() -> None:
    # Every 997th float from -126 to -2^-30 and its negative, and the same towards 0.
    bits = np.arange(0x30800000, 0x42FC0000, 997, dtype=np.uint32)
    x = bits.view(np.float32)
    x = np.concatenate([-x, x])
    expected = np.exp2(x.astype(np.float64))
    ulp = np.spacing(expected.astype(np.float32)).astype(np.float64)
    assert np.max(np.abs(_exp2(x) - expected) / ulp) <= EXP2_MAX_ULP


def test_exp2_at_the_edges() -> None:
    # The last bits of a NaN are free: integer arithmetic on them must not make it a number.
    nans = np.array([0x7FC00000, 0x7FC00001, 0xFFFFFFFF, 0x7F800123], dtype=np.uint32)
    numbers = np.array([0.0, -0.0, -np.inf, -126.0, -126.1, -1e30], dtype=np.float32)
    x = np.concatenate([numbers, nans.view(np.float32)])
    expected = np.array([1.0, 1.0, 0.0, 2.0**-126, 0.0, 0.0, *[np.nan] * 4], dtype=np.float32)
    np.testing.assert_array_equal(_exp2(x), expected)


def test_nan_reaches_its_queries_and_no_other() -> None:
    case = cases.make_case(Sizes(1, 70, 70, 1, 1, 16), torch.float32)
    q, k, v = (x.float() for x in case.inputs.values())
    q[0, 3] = torch.nan
    out = torch_op.attention(q, k, v)
    assert out[0, 3].isnan().all()
    assert not out[0, :3].isnan().any()
    assert not out[0, 4:].isnan().any()


def test_large_scores_do_not_overflow() -> None:
    # Scores up to 1e5, whose exponentials no float holds: the softmax all but chooses one key.
    case = cases.make_case(Sizes(1, 70, 70, 1, 1, 16), torch.float64)
    q, k, v = case.inputs.values()
    q = 1e4 * q
    expected, _ = reference.forward(q, k, v, Options(softmax_scale=16**-0.5))
    out = torch_op.attention(q, k, v)
    torch.testing.assert_close(out, torch.from_numpy(expected))
    single = torch_op.attention(*(x.float() for x in (q, k, v)))
    assert single.isfinite().all()
