"""Runs attention's Triton kernels through Triton itself, on torch tensors.

For tests and for work on the kernels: with TRITON_INTERPRET=1 on CPU tensors, otherwise compiled
just in time for CUDA tensors. `torch_op` and `jax_op` launch the same variants from cubins.
"""

from typing import Any

import torch
import triton

from kernels.attention import triton_kernels
from kernels.attention.contract import Sizes

_VARIANTS = {variant.name: variant for variant in triton_kernels.VARIANTS}


def forward(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    out: torch.Tensor,
    lse: torch.Tensor,
    *,
    sizes: Sizes,
    causal: bool,
    softmax_scale: float,
) -> None:
    """Writes out and lse; the arguments are those of the native code (problem.h)."""
    arguments = _arguments(sizes, causal, softmax_scale)
    arguments |= {"q_ptr": q, "k_ptr": k, "v_ptr": v, "out_ptr": out, "lse_ptr": lse}
    _launch("attention_fwd", "BLOCK_Q", sizes.seq_q, sizes.num_heads, sizes, arguments)


def backward(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    out: torch.Tensor,
    lse: torch.Tensor,
    grad_out: torch.Tensor,
    grad_q: torch.Tensor,
    grad_k: torch.Tensor,
    grad_v: torch.Tensor,
    delta: torch.Tensor,
    *,
    sizes: Sizes,
    causal: bool,
    softmax_scale: float,
) -> None:
    """Writes grad_q, grad_k, grad_v and the workspace delta."""
    arguments = _arguments(sizes, causal, softmax_scale)
    arguments |= {"q_ptr": q, "k_ptr": k, "v_ptr": v, "out_ptr": out, "lse_ptr": lse}
    arguments |= {"grad_out_ptr": grad_out, "delta_ptr": delta}
    arguments |= {"grad_q_ptr": grad_q, "grad_k_ptr": grad_k, "grad_v_ptr": grad_v}
    for kernel, block, seq_len, num_heads in (
        ("attention_bwd_delta", "BLOCK_Q", sizes.seq_q, sizes.num_heads),
        ("attention_bwd_kv", "BLOCK_K", sizes.seq_k, sizes.num_kv_heads),
        ("attention_bwd_q", "BLOCK_Q", sizes.seq_q, sizes.num_heads),
    ):
        _launch(kernel, block, seq_len, num_heads, sizes, arguments)


def _arguments(sizes: Sizes, causal: bool, softmax_scale: float) -> dict[str, Any]:
    shape = {name: size for name, size in sizes._asdict().items() if name != "batch"}
    return {**shape, "softmax_scale": softmax_scale, "causal": int(causal)}


def _launch(
    kernel: str,
    block: str,
    seq_len: int,
    num_heads: int,
    sizes: Sizes,
    arguments: dict[str, Any],
) -> None:
    """Runs one program for each block of the sequence of each head."""
    dtype = str(arguments["out_ptr"].dtype).removeprefix("torch.")
    block_d = max(32, triton.next_power_of_2(sizes.head_dim))
    variant = _VARIANTS[f"{kernel}_{dtype}_d{block_d}"]
    blocks = triton.cdiv(seq_len, variant.constexprs.get(block, 1))
    if programs := blocks * num_heads * sizes.batch:
        variant.kernel[(programs,)](
            **{name: arguments[name] for name in variant.signature},
            **variant.constexprs,
            num_warps=variant.num_warps,
            num_stages=variant.num_stages,
        )
