"""The float32 tanh of the softcap, on every instruction set and in Triton: within 2 ulp.

Run with TRITON_INTERPRET=1.
"""

import numpy as np
import pytest
import torch
import triton
import triton.language as tl

from kernels.attention import triton_scores
from kernels.testing import native_process

# torch's own has 2.3; simd-inl.h promises this.
MAX_ULP = 2.0

# Prints the largest error in ulp over every 1021st float, and those near where the formula changes.
NATIVE = """
import numpy as np
from kernels.attention import _native

def tanh(x):
    out = np.empty_like(x)
    _native.tanh_cpu(x.ctypes.data, x.size, out.ctypes.data)
    return out

near = np.float32(0.625).view(np.uint32) + np.arange(-9999, 9999)
bits = np.concatenate([np.arange(0, 0x7F800000, 1021), near]).astype(np.uint32)
positive = bits.view(np.float32)
x = np.concatenate([positive, -positive])
expected = np.tanh(x.astype(np.float64))
ulp = np.spacing(np.abs(expected).astype(np.float32)).astype(np.float64)
edges = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 1e-45, -1e-45, 20.0], np.float32)
print(_native.cpu_isa(), np.max(np.abs(tanh(x) - expected) / ulp), *tanh(edges),
      np.max(np.abs(tanh(x))))
"""
EDGES = ["0.0", "-0.0", "1.0", "-1.0", "nan", "1e-45", "-1e-45", "1.0", "1.0"]


@pytest.mark.parametrize("isa", ["generic", "avx2", "avx512"])
def test_tanh_is_accurate(isa: str) -> None:
    done = native_process.python(NATIVE, HPC_CPU_ISA=isa)
    if "is not supported by this CPU" in done.stderr:
        pytest.skip(done.stderr)
    name, error, *edges = done.stdout.split()
    assert (name, edges) == (isa, EDGES)
    assert float(error) <= MAX_ULP


@triton.jit
def _tanh(x_ptr, y_ptr, BLOCK: tl.constexpr):
    index = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(y_ptr + index, triton_scores.tanh(tl.load(x_ptr + index), True))


def test_tanh_of_triton_is_accurate() -> None:
    block, blocks = 4096, 32
    bits = np.linspace(0, 0x7F7FFFFF, block * blocks // 2).astype(np.uint32)
    x = np.concatenate([bits.view(np.float32), -bits.view(np.float32)])
    y = torch.empty(x.size)
    _tanh[(blocks,)](torch.from_numpy(x), y, block)
    expected = np.tanh(x.astype(np.float64))
    ulp = np.spacing(np.abs(expected).astype(np.float32)).astype(np.float64)
    assert np.max(np.abs(y.numpy() - expected) / ulp) <= MAX_ULP
