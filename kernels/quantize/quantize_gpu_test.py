"""Quantization on an NVIDIA GPU: the cubins, through torch and JAX, equal the specification's bits.

Run by infra/gpu/run.sh, or by Bazel with --config=cuda. Without a GPU these tests fail.
"""

import jax
import pytest
import torch

from kernels.dispatch import UnsupportedKernelError
from kernels.quantize import cases, contract, torch_op, triton_jit
from kernels.quantize.cases_jax import through_jax
from kernels.quantize.contract import Layout
from kernels.quantize.shapes import TEST_SHAPES, Shape
from kernels.testing.arrays import assert_same_bits

pytestmark = pytest.mark.gpu

DTYPES = ["float32", "bfloat16", "float16"]


@pytest.mark.parametrize("residual", [False, True], ids=["", "residual"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rounding", contract.ROUNDINGS)
@pytest.mark.parametrize("format", contract.FORMAT_NAMES)
@pytest.mark.parametrize("shape", TEST_SHAPES.values(), ids=TEST_SHAPES.keys())
def test_torch_matches_the_specification(
    shape: Shape, format: str, rounding: str, dtype: str, residual: bool
) -> None:
    codec = contract.codec(format, block_size=shape.block_size, rounding=rounding)
    case = cases.make_case(shape, codec, dtype, residual=residual)
    assert_same_bits(cases.through_torch(case, "cuda"), cases.expected(case))


@pytest.mark.parametrize("rounding", contract.ROUNDINGS)
@pytest.mark.parametrize("format", contract.FORMAT_NAMES)
@pytest.mark.parametrize("name", TEST_SHAPES)
def test_jax_matches_the_specification(name: str, format: str, rounding: str) -> None:
    assert jax.default_backend() == "gpu", "JAX finds no GPU"
    shape = TEST_SHAPES[name]
    codec = contract.codec(format, block_size=shape.block_size, rounding=rounding)
    which = list(TEST_SHAPES).index(name)
    case = cases.make_case(shape, codec, DTYPES[which % 3], residual=which % 2 == 0)
    assert_same_bits(through_jax(case), cases.expected(case))


@pytest.mark.parametrize("rounding", contract.ROUNDINGS)
@pytest.mark.parametrize("format", contract.FORMAT_NAMES)
@pytest.mark.parametrize("block_size", contract.BLOCK_SIZES)
def test_equals_the_cpu_on_many_tiles(block_size: int, format: str, rounding: str) -> None:
    codec = contract.codec(format, block_size=block_size, rounding=rounding)
    generator = torch.Generator().manual_seed(block_size)
    x, residual = (torch.randn(3_000_001, generator=generator) for _ in range(2))
    residuals = {device: residual.to(device, copy=True) for device in ("cpu", "cuda")}
    payloads = {
        device: torch_op.quantize(
            x.to(device), codec, num_chunks=8, residual=residuals[device], seed=1
        )
        for device in residuals
    }
    assert torch.equal(payloads["cpu"], payloads["cuda"].cpu())
    assert torch.equal(residuals["cpu"], residuals["cuda"].cpu())
    size = codec.chunk_size(len(x), 8)
    sums = [
        torch_op.reduce_quantize(payload, size, codec, multiplier=1 / 8, seed=2)
        for payload in payloads.values()
    ]
    assert torch.equal(sums[0], sums[1].cpu())


@pytest.mark.parametrize("dtype", DTYPES)
def test_just_in_time_equals_ahead_of_time(dtype: str) -> None:
    codec = contract.codec("float8_e4m3fn", rounding="stochastic")
    x = torch.randn(10_000, device="cuda").to(getattr(torch, dtype))
    expected = torch_op.quantize(x, codec, seed=5, offset=2**32 + 7)
    noise = torch.tensor([5, 7, 1], dtype=torch.int32, device="cuda")
    payload = torch.empty_like(expected)
    layout = Layout(len(x), 1, len(x))
    triton_jit.quantize(noise, x, None, None, payload, layout=layout, codec=codec)
    # A chunk of whole blocks and one that ends within a block have the same payload here.
    assert torch.equal(payload, expected)
    values = torch.empty_like(x)
    triton_jit.dequantize(payload, values, layout=layout, codec=codec)
    assert torch.equal(values, torch_op.dequantize(expected, len(x), codec, dtype=x.dtype))


@pytest.mark.parametrize("shift", [1, 2, 3])
def test_any_alignment(shift: int) -> None:
    whole = torch.randn(5000, device="cuda")
    rest = torch.zeros(5000, device="cuda")
    payload = torch_op.quantize(whole[shift:], residual=rest[shift:])
    assert torch.equal(payload, torch_op.quantize(whole[shift:].clone()))
    values = torch_op.dequantize(payload, 5000 - shift)
    assert torch.equal(values + rest[shift:], whole[shift:])
    assert not rest[:shift].any()


def test_sizes_beyond_2_to_the_31() -> None:
    size = 2**31 + 2**20 + 3
    if torch.cuda.get_device_properties(0).total_memory < 24 * 2**30:
        pytest.fail("needs a GPU with 24 GiB of memory")
    x = torch.full((size,), 1.0, dtype=torch.bfloat16, device="cuda")
    x[-5:] = torch.tensor([-1.0, 0.0, 0.5, 1.0, -0.5], device="cuda")
    payload = torch_op.quantize(x)
    assert torch.equal(payload[0, size - 6 : size].view(torch.int8).cpu(), _codes())
    values = torch_op.dequantize(payload, size, dtype=torch.bfloat16)
    assert torch.equal(values[:-5], x[:-5])


def _codes() -> torch.Tensor:
    # 63.5 is a tie: to even.
    return torch.tensor([127, -127, 0, 64, 127, -64], dtype=torch.int8)


def test_runs_are_deterministic() -> None:
    codec = contract.codec(rounding="stochastic")
    x = torch.randn(1_000_003, device="cuda")
    first = torch_op.quantize(x, codec, seed=3)
    for _ in range(10):
        assert torch.equal(torch_op.quantize(x, codec, seed=3), first)


def test_uses_the_current_stream() -> None:
    x = torch.randn(1_000_003, device="cuda")
    expected = torch_op.quantize(x)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        got = torch_op.quantize(x)
    stream.synchronize()
    assert torch.equal(expected, got)


def test_unsupported_dtypes_are_named() -> None:
    with pytest.raises(UnsupportedKernelError, match="does not support float64 on cuda"):
        torch_op.quantize(torch.zeros(4, dtype=torch.float64, device="cuda"))
