"""The operators `hpc::quantize` and so on: what torch_op calls once its arguments are checked.

Each writes into tensors that it is given, through the backend that serves their device and dtype.
"""

from typing import TypeAlias

import numpy as np
import torch

from kernels import cubin_loader
from kernels.quantize import _native, contract, reference_calls
from kernels.quantize.contract import Codec, Layout

_ALIGNMENT_BYTES = 16

# Looked up several times a call; str(dtype) takes a microsecond.
_DTYPE_NAMES = {
    torch.float16: "float16",
    torch.bfloat16: "bfloat16",
    torch.float32: "float32",
    torch.uint8: "uint8",
}

MaybeTensor: TypeAlias = torch.Tensor | None


def dtype_name(x: torch.Tensor) -> str:
    """Numpy's name of the dtype of x."""
    return _DTYPE_NAMES.get(x.dtype) or str(x.dtype).removeprefix("torch.")


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
) -> None:
    """As torch_op.quantize, of arguments that fit."""
    codec = Codec(format, rounding, block_size)
    layout = Layout(x.numel(), num_chunks, chunk_size)
    noise = _noise(codec, seed, offset, x.device)
    _run("quantize", dtype_name(x), (noise, x, residual), (residual, payload), layout, codec)


@torch.library.custom_op("hpc::dequantize", mutates_args=("out",))
def dequantize(
    payload: torch.Tensor,
    out: torch.Tensor,
    format: int,
    rounding: int,
    block_size: int,
    chunk_size: int,
) -> None:
    """As torch_op.dequantize, of arguments that fit."""
    layout = Layout(out.numel(), len(payload), chunk_size)
    codec = Codec(format, rounding, block_size)
    _run("dequantize", dtype_name(out), (payload,), (out,), layout, codec)


@torch.library.custom_op("hpc::reduce", mutates_args=("out",))
def reduce(
    payloads: torch.Tensor,
    out: torch.Tensor,
    format: int,
    rounding: int,
    block_size: int,
    multiplier: float,
) -> None:
    """As torch_op.reduce, of arguments that fit."""
    layout = Layout(out.numel(), len(payloads), out.numel())
    codec = Codec(format, rounding, block_size)
    _run("reduce", dtype_name(out), (payloads,), (out,), layout, codec, multiplier)


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
) -> None:
    """As torch_op.reduce_quantize, of arguments that fit."""
    codec = Codec(format, rounding, block_size)
    layout = Layout(size, len(payloads), size)
    noise = _noise(codec, seed, offset, payloads.device)
    inputs, outputs = (noise, payloads, residual), (residual, payload)
    _run("reduce_quantize", "float32", inputs, outputs, layout, codec, multiplier)


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
    dtype: str,
    inputs: tuple[MaybeTensor, ...],
    outputs: tuple[MaybeTensor, ...],
    layout: Layout,
    codec: Codec,
    multiplier: float = 1.0,
) -> None:
    """Runs a function of problem.h on its tensors, of which the outputs come last."""
    device = next(x.device for x in outputs if x is not None)
    backend = contract.select(device.type, dtype)
    inputs = tuple(x if x is None else x.contiguous() for x in inputs)
    if backend == "reference":
        _run_reference(function, inputs, outputs, layout, codec, multiplier)
    elif backend == "cpu":
        _native.limit_threads(torch.get_num_threads())
        run = getattr(_native, f"{function}_cpu")
        run(dtype, layout, codec, multiplier, _addresses((*inputs, *outputs)))
    else:
        aligned = tuple(map(_align, outputs))
        _run_triton(function, dtype, (*map(_align, inputs), *aligned), layout, codec, multiplier)
        for output, written in zip(outputs, aligned, strict=True):
            if output is not None and output is not written:
                output.copy_(written)


def _run_triton(
    function: str,
    dtype: str,
    tensors: tuple[MaybeTensor, ...],
    layout: Layout,
    codec: Codec,
    multiplier: float,
) -> None:
    device = next(x.device for x in tensors if x is not None)
    if device.type == "cuda":
        cubin_loader.ensure_registered(_native)
        run = getattr(_native, f"{function}_triton")
        stream = torch.cuda.current_stream(device).cuda_stream
        run(dtype, layout, codec, multiplier, _addresses(tensors), device.index, stream)
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


def _align(x: MaybeTensor) -> MaybeTensor:
    """Aligned as the vector loads of the CUDA kernels need it."""
    return x if x is None or x.data_ptr() % _ALIGNMENT_BYTES == 0 else x.clone()


def _addresses(tensors: tuple[MaybeTensor, ...]) -> list[int]:
    return [0 if x is None or not x.numel() else x.data_ptr() for x in tensors]
