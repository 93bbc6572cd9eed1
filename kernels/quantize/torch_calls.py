"""The operators `hpc::quantize` and so on: what torch_op calls once its arguments are checked.

Each writes into tensors that it is given, through the backend that torch_op chose.
"""

import numpy as np
import torch

from kernels import cubin_loader, dispatch
from kernels.quantize import _native, contract, reference_calls
from kernels.quantize.contract import Codec, Layout
from kernels.torch_tensors import MaybeTensor, addresses, aligned, dtype_name, queue


@torch.library.custom_op("hpc::quantize", mutates_args=("residual", "payload"))
def quantize(
    x: torch.Tensor,
    residual: torch.Tensor | None,
    payload: torch.Tensor,
    format: int,
    rounding: int,
    block_size: int,
    num_chunks: int,
    chunk_size: int,
    seed: int,
    offset: int,
    backend: str,
) -> None:
    """As torch_op.quantize, of arguments that fit."""
    codec = Codec(format, rounding, block_size)
    layout = Layout(x.numel(), num_chunks, chunk_size)
    inputs = (_noise(codec, seed, offset, x.device), x, residual)
    _run("quantize", backend, dtype_name(x), inputs, (residual, payload), layout, codec)


@torch.library.custom_op("hpc::dequantize", mutates_args=("out",))
def dequantize(
    payload: torch.Tensor,
    out: torch.Tensor,
    format: int,
    rounding: int,
    block_size: int,
    chunk_size: int,
    backend: str,
) -> None:
    """As torch_op.dequantize, of arguments that fit."""
    layout = Layout(out.numel(), len(payload), chunk_size)
    codec = Codec(format, rounding, block_size)
    _run("dequantize", backend, dtype_name(out), (payload,), (out,), layout, codec)


@torch.library.custom_op("hpc::reduce", mutates_args=("out",))
def reduce(
    payloads: torch.Tensor,
    out: torch.Tensor,
    format: int,
    rounding: int,
    block_size: int,
    multiplier: float,
    backend: str,
) -> None:
    """As torch_op.reduce, of arguments that fit."""
    layout = Layout(out.numel(), len(payloads), out.numel())
    codec = Codec(format, rounding, block_size)
    _run("reduce", backend, dtype_name(out), (payloads,), (out,), layout, codec, multiplier)


@torch.library.custom_op("hpc::reduce_quantize", mutates_args=("residual", "payload"))
def reduce_quantize(
    payloads: torch.Tensor,
    residual: torch.Tensor | None,
    payload: torch.Tensor,
    format: int,
    rounding: int,
    block_size: int,
    size: int,
    multiplier: float,
    seed: int,
    offset: int,
    backend: str,
) -> None:
    """As torch_op.reduce_quantize, of arguments that fit."""
    codec = Codec(format, rounding, block_size)
    layout = Layout(size, len(payloads), size)
    noise = _noise(codec, seed, offset, payloads.device)
    inputs, outputs = (noise, payloads, residual), (residual, payload)
    _run("reduce_quantize", backend, "float32", inputs, outputs, layout, codec, multiplier)


# They only write into what they are given, so they need no more than to say so.
for _operator in (quantize, dequantize, reduce, reduce_quantize):
    _operator.register_fake(lambda *_: None)


def _noise(codec: Codec, seed: int, offset: int, device: torch.device) -> MaybeTensor:
    """What stochastic rounding counts from; see problem.h."""
    if contract.ROUNDINGS[codec.rounding] == "nearest":
        return None
    words = np.array([seed, offset & 0xFFFFFFFF, offset >> 32], np.uint32)
    return torch.from_numpy(words.view(np.int32)).to(device)


def _run(
    function: str,
    backend: str,
    dtype: str,
    inputs: tuple[MaybeTensor, ...],
    outputs: tuple[MaybeTensor, ...],
    layout: Layout,
    codec: Codec,
    multiplier: float = 1.0,
) -> None:
    """Runs a function of problem.h on its tensors, of which the outputs come last."""
    device = next(x.device for x in outputs if x is not None)
    dispatch.check_backend("quantize", contract.SUPPORT, backend, device=device.type, dtype=dtype)
    inputs = tuple(x if x is None else x.contiguous() for x in inputs)
    if backend == "reference":
        _run_reference(function, inputs, outputs, layout, codec, multiplier)
    elif backend == "cpu":
        _native.limit_threads(torch.get_num_threads())
        run = getattr(_native, f"{function}_cpu")
        run(dtype, layout, codec, multiplier, addresses(*inputs, *outputs))
    else:
        written = _aligned(outputs)
        _run_triton(function, dtype, (*_aligned(inputs), *written), layout, codec, multiplier)
        for output, copy in zip(outputs, written, strict=True):
            if output is not None and output is not copy:
                output.copy_(copy)


def _run_triton(
    function: str,
    dtype: str,
    tensors: tuple[MaybeTensor, ...],
    layout: Layout,
    codec: Codec,
    multiplier: float,
) -> None:
    placed = next(x for x in tensors if x is not None)
    if placed.is_cuda:
        cubin_loader.ensure_registered(_native)
        run = getattr(_native, f"{function}_triton")
        run(dtype, layout, codec, multiplier, addresses(*tensors), *queue(placed))
    else:
        # Imported here: Triton decides at its import whether to interpret.
        from kernels.quantize import triton_jit

        getattr(triton_jit, function)(*tensors, layout=layout, codec=codec, multiplier=multiplier)


def _run_reference(
    function: str,
    inputs: tuple[MaybeTensor, ...],
    outputs: tuple[MaybeTensor, ...],
    layout: Layout,
    codec: Codec,
    multiplier: float,
) -> None:
    arrays = tuple(None if x is None else _host(x) for x in inputs)
    run = getattr(reference_calls, function)
    results = run(*arrays, layout=layout, codec=codec, multiplier=multiplier)
    for output, result in zip(outputs, results, strict=True):
        if output is not None:
            output.copy_(torch.from_numpy(result).view(output.shape))


def _host(x: torch.Tensor) -> np.ndarray:
    """As numpy array; the words of the noise, which torch counts as signed, as what they are."""
    x = x.float() if x.is_floating_point() else x
    array = x.detach().numpy()
    return array.view(np.uint32) if array.dtype == np.int32 else array


def _aligned(tensors: tuple[MaybeTensor, ...]) -> tuple[MaybeTensor, ...]:
    return tuple(None if x is None else aligned(x) for x in tensors)
