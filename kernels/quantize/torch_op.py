"""Blockwise 8-bit quantization for PyTorch: custom operators for CPU and CUDA tensors.

    from kernels.quantize import torch_op
    payload = torch_op.quantize(gradient, residual=residual, num_chunks=world_size)
    ...                                                # send a row to each rank, get one from each
    mean = torch_op.reduce(received, size, multiplier=1 / world_size)

The operators `hpc::quantize`, `hpc::dequantize`, `hpc::reduce` and `hpc::reduce_quantize` write
into tensors they are given, are opaque to torch.compile (fullgraph=True works) and run the same
native code as `jax_op`, with the same bits as results. None of them is differentiable: what they
are given counts as constant.
"""

from typing import Any

import torch

from kernels import arguments, torch_arguments
from kernels.quantize import contract, torch_calls
from kernels.quantize.contract import DEFAULT_CODEC, FORMATS, Codec, Layout
from kernels.torch_tensors import MaybeTensor, dtype_name


def quantize(
    x: torch.Tensor,
    codec: Codec = DEFAULT_CODEC,
    *,
    num_chunks: int = 1,
    chunk_size: int | None = None,
    residual: torch.Tensor | None = None,
    seed: int = 0,
    offset: int = 0,
    out: torch.Tensor | None = None,
) -> torch.Tensor:
    """Quantizes x, or x + residual with error feedback, in one pass over memory.

    Args:
      x: float32, bfloat16 or float16 of any shape; counts as flat.
      codec: how values become bytes; see `contract.codec`.
      num_chunks: rows of the payload: equal parts of x, but for the last ones.
      chunk_size: values in each, `codec.chunk_size(x.numel(), num_chunks)` unless given. It need
        not be a multiple of the block size.
      residual: contiguous float32 of as many values as x. Updated in place: what the payload does
        not say of x + residual.
      seed: of stochastic rounding; its low 32 bits count.
      offset: index of the first value in the whole vector, of which x is a piece, so that the
        result of stochastic rounding does not depend on how the vector is cut.
      out: contiguous uint8 for the payload, allocated unless given.

    Returns:
      The payload, uint8 [num_chunks, codec.payload_bytes(chunk_size)].

    Raises:
      TypeError: a dtype or an argument is not of its type.
      ValueError: shapes do not fit, a tensor that is written is not contiguous, devices differ, or
        no backend serves this dtype and device.

    Reference: see reference.py.
    """
    torch_arguments.tensor("x", x)
    layout = contract.check_layout(codec, x.numel(), num_chunks, chunk_size)
    backend = contract.select(x.device.type, dtype_name(x))
    seed, offset = contract.check_seed(seed), contract.check_offset(offset)
    _check_residual(residual, layout.size, x.device)
    out = _payload_out(out, codec, layout, x.device)
    x, *plain = _plain(x.detach(), residual, out)
    torch_calls.quantize(x, *plain, *codec, *layout[1:], seed, offset, backend)
    _write_back(plain, residual, out)
    return out


def dequantize(
    payload: torch.Tensor,
    size: int,
    codec: Codec = DEFAULT_CODEC,
    *,
    chunk_size: int | None = None,
    dtype: torch.dtype = torch.float32,
    out: torch.Tensor | None = None,
) -> torch.Tensor:
    """Returns the values of a payload.

    Args:
      payload: what `quantize` gave, uint8 [num_chunks, payload_bytes].
      size: values in it.
      codec: as it was quantized.
      chunk_size: as it was quantized.
      dtype: of the result; rounded to nearest from float32.
      out: contiguous tensor of `size` values for the result, whose dtype counts; allocated unless
        given.

    Returns:
      `out`, or a tensor [size].

    Raises:
      TypeError, ValueError: as `quantize`.
    """
    layout = _layout(payload, size, codec, chunk_size)
    out = _values_out(out, layout.size, dtype, payload.device)
    backend = contract.select(out.device.type, dtype_name(out))
    plain = _plain(out)
    torch_calls.dequantize(payload, *plain, *codec, layout.chunk_size, backend)
    _write_back(plain, out)
    return out


def reduce(
    payloads: torch.Tensor,
    size: int,
    codec: Codec = DEFAULT_CODEC,
    *,
    multiplier: float = 1.0,
    dtype: torch.dtype = torch.float32,
    out: torch.Tensor | None = None,
) -> torch.Tensor:
    """Returns `multiplier` times the sum of the values of several payloads.

    Args:
      payloads: uint8 [num_payloads, payload_bytes], each row the payload of one chunk.
      size: values in each.
      codec: as they were quantized.
      multiplier: such as 1 / num_payloads for the mean.
      dtype: of the result; sums are float32, in the order of the rows.
      out: contiguous tensor of `size` values for the result, whose dtype counts; allocated unless
        given.

    Returns:
      `out`, or a tensor [size].

    Raises:
      TypeError, ValueError: as `quantize`.
    """
    torch_arguments.tensor("payloads", payloads)
    size = contract.check_sum(tuple(payloads.shape), dtype_name(payloads), codec, size).size
    multiplier = contract.check_multiplier(multiplier)
    out = _values_out(out, size, dtype, payloads.device)
    backend = contract.select(out.device.type, dtype_name(out))
    plain = _plain(out)
    torch_calls.reduce(payloads, *plain, *codec, multiplier, backend)
    _write_back(plain, out)
    return out


def reduce_quantize(
    payloads: torch.Tensor,
    size: int,
    codec: Codec = DEFAULT_CODEC,
    *,
    multiplier: float = 1.0,
    residual: torch.Tensor | None = None,
    seed: int = 0,
    offset: int = 0,
    out: torch.Tensor | None = None,
) -> torch.Tensor:
    """Quantizes `multiplier` times the sum of the values of several payloads, in one pass.

    Args:
      payloads: as for `reduce`.
      size: as for `reduce`.
      codec: how the payloads were quantized, and how their sum is.
      multiplier: as for `reduce`.
      residual: as for `quantize`, of `size` values.
      seed: as for `quantize`.
      offset: as for `quantize`.
      out: contiguous uint8 for the payload, allocated unless given.

    Returns:
      The payload, uint8 [1, codec.payload_bytes(size)].

    Raises:
      TypeError, ValueError: as `quantize`.
    """
    torch_arguments.tensor("payloads", payloads)
    size = contract.check_sum(tuple(payloads.shape), dtype_name(payloads), codec, size).size
    multiplier = contract.check_multiplier(multiplier)
    seed, offset = contract.check_seed(seed), contract.check_offset(offset)
    _check_residual(residual, size, payloads.device)
    out = _payload_out(out, codec, Layout(size, 1, size), payloads.device)
    backend = contract.select(payloads.device.type, "float32")
    payloads, *plain = _plain(payloads, residual, out)
    torch_calls.reduce_quantize(payloads, *plain, *codec, size, multiplier, seed, offset, backend)
    _write_back(plain, residual, out)
    return out


def codes(
    payload: torch.Tensor,
    size: int,
    codec: Codec = DEFAULT_CODEC,
    *,
    chunk_size: int | None = None,
) -> torch.Tensor:
    """Returns a view of a payload's codes, [num_chunks, blocks, block_size] of the format's dtype.

    Raises:
      TypeError, ValueError: it is not the payload of `size` values.
    """
    layout = _layout(payload, size, codec, chunk_size)
    padded = codec.padded_size(layout.chunk_size)
    dtype = getattr(torch, FORMATS[codec.format].name)
    blocks = padded // codec.block_size
    return payload[:, :padded].view(dtype).unflatten(1, (blocks, codec.block_size))


def scales(
    payload: torch.Tensor,
    size: int,
    codec: Codec = DEFAULT_CODEC,
    *,
    chunk_size: int | None = None,
) -> torch.Tensor:
    """Returns a view of a payload's scales, float32 [num_chunks, blocks].

    Raises:
      TypeError, ValueError: it is not the payload of `size` values.
    """
    layout = _layout(payload, size, codec, chunk_size)
    padded = codec.padded_size(layout.chunk_size)
    if not padded:  # Torch views no empty tensor as another dtype.
        return payload.new_empty((layout.num_chunks, 0), dtype=torch.float32)
    end = padded + padded // codec.block_size * contract.SCALE_BYTES
    return payload[:, padded:end].view(torch.float32)


def explain(
    x: torch.Tensor,
    *_: Any,
    dtype: torch.dtype = torch.float32,
    out: torch.Tensor | None = None,
    **__: Any,
) -> str:
    """Returns a line for each backend: whether and why a call of one of the functions takes it.

    Args:
      x: values, or a payload.
      dtype: of the result, if x is a payload; that of `out` where it is given.
      out: as for the functions.

    Raises:
      ValueError: no backend serves this dtype and device.
    """
    if x.dtype == torch.uint8:  # quantized again, values are float32
        x = x.new_empty(0, dtype=dtype if out is None or out.dtype == torch.uint8 else out.dtype)
    return contract.explain(x.device.type, dtype_name(x))


def _layout(payload: torch.Tensor, size: int, codec: Codec, chunk_size: int | None) -> Layout:
    shape = tuple(torch_arguments.tensor("payload", payload).shape)
    contract.check_payload_rank(shape)
    layout = contract.check_layout(codec, size, shape[0], chunk_size)
    contract.check_payload(shape, dtype_name(payload), codec, layout)
    return layout


def _check_residual(residual: MaybeTensor, size: int, device: torch.device) -> None:
    if residual is not None:
        torch_arguments.tensor("residual", residual, or_else=" or None")
        contract.check_residual(tuple(residual.shape), dtype_name(residual), size)
        _check_written("residual", residual, device)


def _plain(*given: MaybeTensor) -> list[Any]:
    """Copies negative views: with one PyTorch calls no operator that takes or returns None."""
    if torch.compiler.is_compiling():
        return list(given)
    return [None if x is None else x.resolve_neg() for x in given]


def _write_back(plain: list[Any], *written: MaybeTensor) -> None:
    for x, done in zip(written, plain, strict=True):
        if x is not None and x is not done:
            x.copy_(done)


def _check_written(name: str, x: torch.Tensor, device: torch.device) -> None:
    if x.device != device:
        raise ValueError(f"{name} must be on {device}, as the input, got {x.device}")
    if not x.is_contiguous():
        raise ValueError(f"{name} is written in place and must be contiguous: strides {x.stride()}")
    if x.requires_grad:
        raise ValueError(f"{name} is written in place and must not require a gradient")


def _payload_out(
    out: MaybeTensor, codec: Codec, layout: Layout, device: torch.device
) -> torch.Tensor:
    if out is None:
        shape = (layout.num_chunks, codec.payload_bytes(layout.chunk_size))
        return torch.empty(shape, dtype=torch.uint8, device=device)
    torch_arguments.tensor("out", out, or_else=" or None")
    contract.check_payload(tuple(out.shape), dtype_name(out), codec, layout)
    _check_written("out", out, device)
    return out


def _values_out(
    out: MaybeTensor, size: int, dtype: torch.dtype, device: torch.device
) -> torch.Tensor:
    if out is None:
        if not isinstance(dtype, torch.dtype):
            raise TypeError(f"dtype must be a torch dtype, got {arguments.given(dtype)}")
        out = torch.empty(size, dtype=dtype, device=device)
    elif torch_arguments.tensor("out", out, or_else=" or None").numel() != size:
        raise ValueError(f"out must have {size} values, got shape {tuple(out.shape)}")
    _check_written("out", out, device)
    return out
