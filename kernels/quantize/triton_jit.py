"""Runs the Triton kernels for quantization through Triton itself, on torch tensors.

For tests and for work on the kernels: with TRITON_INTERPRET=1 on CPU tensors, otherwise compiled
just in time for CUDA tensors. `torch_op` and `jax_op` launch the same variants from cubins.

Tensors are contiguous, start at multiples of 16 bytes, and are those of the structs in problem.h.
"""

from typing import Any, TypeAlias

import torch
import triton

from kernels.quantize import triton_kernels, triton_tiles
from kernels.quantize.contract import ROUNDINGS, Codec, Layout

_VARIANTS = {variant.name: variant for variant in triton_kernels.VARIANTS}

MaybeTensor: TypeAlias = torch.Tensor | None


def quantize(
    noise: MaybeTensor,
    x: torch.Tensor,
    residual_in: MaybeTensor,
    residual_out: MaybeTensor,
    payload: torch.Tensor,
    *,
    layout: Layout,
    codec: Codec,
    multiplier: float = 1.0,
) -> None:
    """Writes the payload and, if there is a residual, the new one. There is nothing to multiply."""
    x = _exact(x)
    arguments: dict[str, Any] = {"noise_ptr": noise, "x_ptr": x, "payload_ptr": payload}
    arguments |= {"residual_in_ptr": residual_in, "residual_out_ptr": residual_out}
    arguments |= {"chunk_size": layout.chunk_size, "has_residual": int(residual_in is not None)}
    _launch(f"quantize_{_dtype(x)}{_suffix(codec)}", layout.num_chunks, arguments, layout, codec)


def dequantize(
    payload: torch.Tensor,
    out: torch.Tensor,
    *,
    layout: Layout,
    codec: Codec,
    multiplier: float = 1.0,
) -> None:
    """Writes the values of a payload."""
    _dequantize(payload, out, layout, codec, multiplier, chunks=layout.num_chunks, terms=1)


def reduce(
    payloads: torch.Tensor,
    out: torch.Tensor,
    *,
    layout: Layout,
    codec: Codec,
    multiplier: float = 1.0,
) -> None:
    """Writes the sum of payloads."""
    _dequantize(payloads, out, layout, codec, multiplier, chunks=1, terms=layout.num_chunks)


def reduce_quantize(
    noise: MaybeTensor,
    payloads: torch.Tensor,
    residual_in: MaybeTensor,
    residual_out: MaybeTensor,
    payload: torch.Tensor,
    *,
    layout: Layout,
    codec: Codec,
    multiplier: float = 1.0,
) -> None:
    """Writes the payload of the sum of payloads and, if there is a residual, the new one."""
    arguments: dict[str, Any] = {
        "noise_ptr": noise,
        "payloads_ptr": payloads,
        "payload_ptr": payload,
    }
    arguments |= {"residual_in_ptr": residual_in, "residual_out_ptr": residual_out}
    arguments |= {"num_terms": layout.num_chunks, "multiplier": multiplier}
    arguments |= {"has_residual": int(residual_in is not None)}
    _launch(f"reduce_quantize{_suffix(codec)}", 1, arguments, layout, codec)


def _dequantize(
    payloads: torch.Tensor,
    out: torch.Tensor,
    layout: Layout,
    codec: Codec,
    multiplier: float,
    *,
    chunks: int,
    terms: int,
) -> None:
    """Writes chunks, each the sum of some of the payloads."""
    written = _exact(out)
    arguments: dict[str, Any] = {"payloads_ptr": payloads, "out_ptr": written}
    arguments |= {"chunk_size": layout.chunk_size}
    arguments |= {"num_terms": terms, "multiplier": multiplier}
    arguments |= {"log2_block": codec.block_size.bit_length() - 1}
    _launch(f"dequantize_{_dtype(written)}", chunks, arguments, layout, codec)
    if written is not out:
        out.copy_(written)


def _exact(x: torch.Tensor) -> torch.Tensor:
    """A bfloat16 as float32 where it is interpreted: the interpreter converts neither exactly."""
    return x.float() if x.dtype == torch.bfloat16 and x.device.type == "cpu" else x


def _dtype(x: torch.Tensor) -> str:
    return str(x.dtype).removeprefix("torch.")


def _suffix(codec: Codec) -> str:
    """Of the variant for a block size and a rounding."""
    return f"_b{codec.block_size}_{ROUNDINGS[codec.rounding]}"


def _launch(
    name: str, chunks: int, arguments: dict[str, Any], layout: Layout, codec: Codec
) -> None:
    """Runs a variant with a program for each tile of each chunk."""
    variant = _VARIANTS[name]
    programs = chunks * triton.cdiv(layout.chunk_size, triton_tiles.TILE.value)
    if not programs:
        return
    anything = next(x for x in arguments.values() if isinstance(x, torch.Tensor))
    arguments = {n: anything if x is None else x for n, x in arguments.items()}
    arguments |= {"size": layout.size, "format": codec.format}
    arguments |= {"payload_bytes": codec.payload_bytes(layout.chunk_size)}
    variant.kernel[(programs,)](
        **{n: arguments[n] for n in variant.signature},
        **variant.constexprs,
        num_warps=variant.num_warps,
        num_stages=variant.num_stages,
        **variant.options,
    )
