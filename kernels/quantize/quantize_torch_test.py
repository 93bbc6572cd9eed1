"""Quantization as PyTorch operators: outputs given, compilation, layouts and errors."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.dispatch import UnsupportedKernelError
from kernels.quantize import contract, torch_op
from kernels.quantize.contract import DEFAULT_CODEC, Codec

CODECS = {
    f"{name} {rounding}": contract.codec(name, rounding=rounding, block_size=64)
    for name in contract.FORMAT_NAMES
    for rounding in contract.ROUNDINGS
}


def _x(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


@pytest.mark.parametrize(
    ("codec", "dtype"),
    [
        (CODECS["int8 nearest"], torch.float32),
        (CODECS["float8_e4m3fn stochastic"], torch.bfloat16),
        (CODECS["float8_e5m2 nearest"], torch.float16),
    ],
    ids=str,
)
def test_operators_are_well_formed(codec: Codec, dtype: torch.dtype) -> None:
    x, size = _x(300, dtype=dtype), 300
    check = torch.library.opcheck
    for residual in (None, _x(size)):
        payload = torch.empty(2, codec.payload_bytes(192), dtype=torch.uint8)
        arguments = (x, residual, payload, *codec, 2, 192, 7, 2**40, "cpu")
        check(torch.ops.hpc.quantize.default, arguments)
        payloads = torch_op.quantize(x, codec).repeat(3, 1)
        out = torch.empty(1, codec.payload_bytes(size), dtype=torch.uint8)
        arguments = (payloads, residual, out, *codec, size, 0.5, 7, 2**40, "cpu")
        check(torch.ops.hpc.reduce_quantize.default, arguments)
    values = torch.empty(size, dtype=dtype)
    check(torch.ops.hpc.dequantize.default, (payloads[:1], values, *codec, size, "cpu"))
    check(torch.ops.hpc.reduce.default, (payloads, values, *codec, 0.5, "cpu"))


@pytest.mark.parametrize(("backend", "dynamic"), [("eager", False), ("aot_eager", True)])
def test_compiles_into_one_graph(backend: str, dynamic: bool) -> None:
    def step(x: torch.Tensor, residual: torch.Tensor) -> torch.Tensor:
        payload = torch_op.quantize(2 * x, num_chunks=2, residual=residual)
        mean = torch_op.dequantize(payload, x.numel(), dtype=torch.bfloat16)
        again = torch_op.reduce_quantize(torch_op.quantize(mean), x.numel(), multiplier=0.5)
        return torch_op.reduce(again, x.numel()) + residual

    torch.compiler.reset()
    compiled = torch.compile(step, backend=backend, fullgraph=True, dynamic=dynamic)
    for size in (700, 900):
        residual, other = torch.full((size,), 0.1), torch.full((size,), 0.1)
        assert torch.equal(compiled(_x(size), residual), step(_x(size), other))
        assert torch.equal(residual, other)


def test_a_codec_may_be_an_argument_of_what_is_compiled() -> None:
    x, codec = _x(96), contract.codec(block_size=64)
    run = torch.compile(torch_op.quantize, dynamic=True, fullgraph=True, backend="eager")
    assert torch.equal(run(x, codec), torch_op.quantize(x, codec))


def test_outputs_may_be_given() -> None:
    x = _x(20, 50)
    payload = torch.full((4, DEFAULT_CODEC.payload_bytes(256)), 9, dtype=torch.uint8)
    assert torch_op.quantize(x, num_chunks=4, out=payload) is payload
    assert torch.equal(payload, torch_op.quantize(x, num_chunks=4))
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        out = torch.empty(20, 50, dtype=dtype)
        assert torch_op.dequantize(payload, 1000, out=out) is out
        assert torch.equal(out.flatten(), torch_op.dequantize(payload, 1000, dtype=dtype))
    terms = torch_op.quantize(x).repeat(2, 1)
    out = torch.empty(1000)
    assert torch_op.reduce(terms, 1000, multiplier=0.5, out=out) is out
    assert torch.equal(out, torch_op.dequantize(terms[:1], 1000))
    again = torch.empty_like(terms[:1])
    assert torch_op.reduce_quantize(terms, 1000, multiplier=0.5, out=again) is again
    torch.testing.assert_close(torch_op.dequantize(again, 1000), out, rtol=0, atol=2.0**-20)


def test_negative_views() -> None:
    x, residual = _x(96), _x(96)
    payload = torch_op.quantize(-x)
    assert torch.equal(torch_op.quantize(torch._neg_view(x)), payload)
    plain, view = -residual, torch._neg_view(residual)
    expected = torch_op.quantize(x, residual=plain)
    assert torch.equal(torch_op.quantize(x, residual=view), expected)
    assert torch.equal(view, plain)
    out = torch._neg_view(torch.empty(96))
    torch_op.dequantize(payload, 96, out=out)
    assert torch.equal(out, torch_op.dequantize(payload, 96))


def test_any_layout_of_the_input() -> None:
    x = _x(60, 70)
    assert torch.equal(torch_op.quantize(x.T), torch_op.quantize(x.T.contiguous()))
    flat = x.flatten()
    assert torch.equal(torch_op.quantize(flat[1:]), torch_op.quantize(flat[1:].clone()))
    wide = torch_op.quantize(x, num_chunks=6)
    assert torch.equal(
        torch_op.reduce(wide[::2], 768), torch_op.reduce(wide[::2].contiguous(), 768)
    )


@pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS.keys())
def test_codes_and_scales_are_views(codec: Codec) -> None:
    x = _x(1000)
    payload = torch_op.quantize(x, codec, num_chunks=3)
    codes = torch_op.codes(payload, 1000, codec)
    scales = torch_op.scales(payload, 1000, codec)
    assert codes.shape == (3, 6, 64) and scales.shape == (3, 6)
    back = (codes.float() * scales[..., None]).flatten()[:1000]
    assert torch.equal(back, torch_op.dequantize(payload, 1000, codec))
    scales *= 2
    assert torch.equal(2 * back, torch_op.dequantize(payload, 1000, codec))


@settings(max_examples=60, deadline=None)
@given(
    size=st.integers(0, 3000),
    num_chunks=st.integers(1, 7),
    codec=st.sampled_from(sorted(CODECS)),
    block_size=st.sampled_from(contract.BLOCK_SIZES),
    dtype=st.sampled_from([torch.float32, torch.bfloat16, torch.float16]),
    seed=st.integers(-(2**63), 2**63 - 1),
    offset=st.integers(0, 2**63 - 1),
)
def test_what_is_sent_and_kept_is_what_was_given(
    size: int,
    num_chunks: int,
    codec: str,
    block_size: int,
    dtype: torch.dtype,
    seed: int,
    offset: int,
) -> None:
    chosen = CODECS[codec]._replace(block_size=block_size)
    x, residual = _x(size, dtype=dtype, seed=size), 0.1 * _x(size, seed=size + 1)
    given_sum = x.float() + residual
    payload = torch_op.quantize(
        x, chosen, num_chunks=num_chunks, residual=residual, seed=seed, offset=offset
    )
    sent = torch_op.dequantize(payload, size, chosen)
    # Stochastic rounding may go away from a value by a whole step, so that float32 holds the
    # difference only nearly.
    total = sent.double() + residual.double()
    error = (total - given_sum.double()).abs().max() if size else torch.zeros(())
    assert error <= (2.0**-22 if "stochastic" in codec else 0)


def test_gradients_end_here() -> None:
    x = _x(100).requires_grad_()
    payload = torch_op.quantize(x)
    assert not torch_op.dequantize(payload, 100).requires_grad


def test_reference_backend_on_request(monkeypatch: pytest.MonkeyPatch) -> None:
    x = _x(1000, dtype=torch.bfloat16)
    residual, other = _x(1000), _x(1000)
    payload = torch_op.quantize(x, num_chunks=3, residual=residual)
    values = torch_op.dequantize(payload, 1000, dtype=torch.float16)
    monkeypatch.setenv("HPC_KERNEL_BACKEND", "reference")
    assert torch.equal(torch_op.quantize(x, num_chunks=3, residual=other), payload)
    assert torch.equal(other, residual)
    assert torch.equal(torch_op.dequantize(payload, 1000, dtype=torch.float16), values)


def test_explain_names_every_backend() -> None:
    lines = torch_op.explain(_x(1)).splitlines()
    assert [line.split(": ")[1] for line in lines] == ["cpu", "triton", "reference"]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"num_chunks": 0}, ValueError, "num_chunks must be at least 1, got 0"),
        ({"num_chunks": 2, "chunk_size": 40}, ValueError, "2 chunks of chunk_size 40 cannot hold"),
        ({"offset": -1}, ValueError, "offset must be from 0"),
        ({"offset": 1.5}, TypeError, "offset must be an int, got float"),
        ({"residual": torch.zeros(99)}, ValueError, r"residual must have 100 values, got .*99"),
        ({"residual": torch.zeros(100).half()}, TypeError, "residual must be float32, got float16"),
        ({"residual": torch.zeros(200)[::2]}, ValueError, "residual is written in place and must"),
        ({"residual": torch.zeros(100, requires_grad=True)}, ValueError, "not require a gradient"),
        ({"residual": torch.zeros(100, device="meta")}, ValueError, "residual must be on cpu"),
        ({"out": torch.zeros(1, 272)}, TypeError, "payload must be uint8, got float32"),
        ({"out": torch.zeros(1, 99, dtype=torch.uint8)}, ValueError, r"must be \(1, 272\)"),
    ],
)
def test_bad_arguments_are_named(
    arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        torch_op.quantize(_x(100), **arguments)


def test_bad_payloads_are_named() -> None:
    payload = torch_op.quantize(_x(1000), num_chunks=2)
    with pytest.raises(ValueError, match=r"must be \(2, 784\), got shape \(2, 528\)"):
        torch_op.dequantize(payload, 1100)
    with pytest.raises(ValueError, match=r"in blocks of 64 must be \(2, 544\)"):
        torch_op.dequantize(payload, 1000, contract.codec(block_size=64))
    with pytest.raises(ValueError, match=r"payloads must be \[at least 1, 1040\]"):
        torch_op.reduce(payload[:0], 1000)
    with pytest.raises(ValueError, match="multiplier must be finite, got inf"):
        torch_op.reduce(payload, 500, multiplier=float("inf"))
    with pytest.raises(ValueError, match=r"out must have 1000 values, got shape \(999,\)"):
        torch_op.dequantize(payload, 1000, out=torch.empty(999))
    with pytest.raises(ValueError, match="out is written in place and must be contiguous"):
        torch_op.dequantize(payload, 1000, out=torch.empty(2000)[::2])


def test_bad_codecs_are_named() -> None:
    with pytest.raises(ValueError, match="block_size must be one of 64, .*, got 100"):
        contract.codec(block_size=100)
    with pytest.raises(ValueError, match="format must be one of int8, float8_e4m3fn"):
        contract.codec("int4")
    with pytest.raises(ValueError, match="rounding must be one of nearest, stochastic"):
        contract.codec(rounding="up")
    for name, made in (("block_size", Codec(0, 0, 0)), ("rounding", Codec(0, 7, 256))):
        with pytest.raises(ValueError, match=f"{name} of a Codec must be one of"):
            torch_op.quantize(_x(5), made)


def test_unsupported_dtypes_are_named() -> None:
    with pytest.raises(UnsupportedKernelError, match="does not support float64 on cpu"):
        torch_op.quantize(_x(5, dtype=torch.float64))
    with pytest.raises(UnsupportedKernelError, match="does not support float64 on cpu"):
        torch_op.dequantize(torch_op.quantize(_x(5)), 5, dtype=torch.float64)
