"""The native code itself: one binary for both frameworks, threads, forks, memory and modes."""

import numpy as np
import pytest
import torch

from kernels.quantize import _native, contract, jax_op, torch_calls, torch_op
from kernels.quantize.contract import Layout
from kernels.quantize.shapes import TEST_SHAPES, Shape
from kernels.testing import native_process

# Bytes around an array that nobody may touch.
MARGIN = 256
CANARY = 0xA5

# Prints a digest of all results of a problem with several chunks and tasks.
DIGEST = """
import hashlib
import numpy as np
from kernels.quantize import _native

size, block = 300_000, 512
codec = (2, 1, block)
rng = np.random.default_rng(0)
x = rng.standard_normal(size).astype(np.float32)
noise = np.array([3, 2**32 - 5, 1], np.uint32)
def payload_of(num_chunks, chunk_size):
    blocks = -(-chunk_size // block)
    return np.empty((num_chunks, -(-blocks * (block + 4) // 16) * 16), np.uint8)
def run():
    def go(function, layout, *arrays):
        function("float32", layout, codec, 1 / 3, [a.ctypes.data for a in arrays])
    values, total = np.empty((2, size), np.float32)
    residual, other = np.full((2, size), 0.1, np.float32)
    payload, terms, again = payload_of(2, 200_000), payload_of(3, size), payload_of(1, size)
    cut, summed = (size, 2, 200_000), (size, 3, size)
    go(_native.quantize_cpu, cut, noise, x, residual, residual, payload)
    go(_native.dequantize_cpu, cut, payload, values)
    for term in terms:
        go(_native.quantize_cpu, (size, 1, size), noise, x, residual, residual, term)
    go(_native.reduce_cpu, summed, terms, total)
    go(_native.reduce_quantize_cpu, summed, noise, terms, other, other, again)
    results = (residual, payload, values, terms, total, again, other)
    return hashlib.sha256(b"".join(r.tobytes() for r in results)).hexdigest()
"""


def test_both_frameworks_load_one_binary() -> None:
    native_process.assert_one_binary(jax_op, torch_calls)


def test_results_do_not_depend_on_threads_or_instructions() -> None:
    environments = [{"HPC_NUM_THREADS": str(n)} for n in (1, 2, 5)]
    native_process.assert_same_digest(DIGEST, *environments, {"HPC_CPU_ISA": "generic"})


def test_forked_child_computes_the_same() -> None:
    native_process.assert_forked_child_agrees(DIGEST, num_threads=2)


def test_concurrent_callers_compute_the_same() -> None:
    native_process.assert_concurrent_callers_agree(DIGEST, num_threads=2)


def test_subnormal_numbers_count_where_the_caller_flushes_them() -> None:
    rng = np.random.default_rng(0)
    x = torch.from_numpy((rng.standard_normal(1000) * 2.0**-130).astype(np.float32))
    x[::64] = 2.0**-99
    # Whole blocks of numbers that are subnormal or have a subnormal quotient by 127.
    x[256:512] *= 2.0**-5
    x[512:768] = 2.0**-122 * x[512:768].sign()
    want_residual, residual = torch.zeros(1000), torch.zeros(1000)
    want = torch_op.quantize(x, residual=want_residual)
    if not torch.set_flush_denormal(True):
        raise RuntimeError("this CPU cannot flush subnormal numbers")
    try:
        payload = torch_op.quantize(x, residual=residual)
    finally:
        torch.set_flush_denormal(False)
    assert torch.equal(payload, want)
    assert torch.equal(residual, want_residual)
    assert ((residual != 0) & (residual.abs() < 2.0**-126)).any()


class Guarded:
    """An array of bytes with canaries around it, at an odd distance from any alignment."""

    def __init__(self, num_bytes: int, value_bytes: int) -> None:
        self.memory = np.full(num_bytes + 2 * MARGIN, CANARY, np.uint8)
        self.begin = MARGIN + value_bytes - self.memory.ctypes.data % value_bytes
        self.end = self.begin + num_bytes

    @property
    def address(self) -> int:
        return int(self.memory.ctypes.data) + self.begin

    @property
    def inside(self) -> np.ndarray:
        return self.memory[self.begin : self.end]

    def is_intact(self) -> bool:
        outside = np.concatenate([self.memory[: self.begin], self.memory[self.end :]])
        return bool((outside == CANARY).all())


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("shape", TEST_SHAPES.values(), ids=TEST_SHAPES.keys())
def test_memory_outside_is_not_touched(shape: Shape, dtype: str) -> None:
    codec = contract.codec(block_size=shape.block_size)
    layout = shape.layout(codec)
    width = 4 if dtype == "float32" else 2
    row = codec.payload_bytes(layout.chunk_size)
    x, out = (Guarded(shape.size * width, width) for _ in range(2))
    residual = Guarded(4 * shape.size, 4)
    payload = Guarded(layout.num_chunks * row, 1)
    x.inside[:], residual.inside[:] = 0x3C, 0
    tensors = [0, x.address, residual.address, residual.address, payload.address]
    _native.quantize_cpu(dtype, layout, codec, 1.0, tensors)
    _native.dequantize_cpu(dtype, layout, codec, 1.0, [payload.address, out.address])
    one = Layout(layout.chunk_size, layout.num_chunks, layout.chunk_size)
    total = Guarded(layout.chunk_size * width, width)
    _native.reduce_cpu(dtype, one, codec, 1.0, [payload.address, total.address])
    again, rest = Guarded(row, 1), Guarded(4 * layout.chunk_size, 4)
    rest.inside[:] = 0
    tensors = [0, payload.address, rest.address, rest.address, again.address]
    _native.reduce_quantize_cpu("float32", one, codec, 1.0, tensors)
    assert all(a.is_intact() for a in (x, out, residual, payload, total, again, rest))
    # The canary is no code that these values have.
    assert not (payload.inside == CANARY).any() and not (again.inside == CANARY).any()


@pytest.mark.parametrize(
    ("layout", "codec", "message"),
    [
        ((-1, 1, 0), (0, 0, 256), "size must not be negative, got -1"),
        ((5, 0, 5), (0, 0, 256), "num_chunks must be at least 1, got 0"),
        ((5, 2, 2), (0, 0, 256), "the chunks must hold all values, got 2"),
        ((5, 1, 5), (3, 0, 256), "format must be 0, 1 or 2, got 3"),
        ((5, 1, 5), (0, 2, 256), "rounding must be 0 or 1, got 2"),
        ((5, 1, 5), (0, 0, 96), "power of two from 64 to 4096, got 96"),
        ((5, 1, 5), (0, 0, 32), "power of two from 64 to 4096, got 32"),
        ((5, 1, 5), (0, 0, 8192), "power of two from 64 to 4096, got 8192"),
    ],
)
def test_ill_formed_problems_are_refused(
    layout: tuple[int, ...], codec: tuple[int, ...], message: str
) -> None:
    for function, count in (
        (_native.quantize_cpu, 5),
        (_native.dequantize_cpu, 2),
        (_native.reduce_cpu, 2),
        (_native.reduce_quantize_cpu, 5),
    ):
        with pytest.raises(ValueError, match=message):
            function("float32", layout, codec, 1.0, [0] * count)
    with pytest.raises(ValueError, match="dtype must be .*, got float64"):
        _native.quantize_cpu("float64", layout, codec, 1.0, [0] * 5)
