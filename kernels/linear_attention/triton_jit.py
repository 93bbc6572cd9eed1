"""Runs linear attention's Triton kernels through Triton itself, on torch tensors.

For tests and for work on the kernels: with TRITON_INTERPRET=1 on CPU tensors, otherwise compiled
just in time for CUDA tensors. `torch_op` and `jax_op` launch the same variants from cubins.
"""

from typing import Any, TypeAlias

import torch
import triton

from kernels.linear_attention import triton_kernels
from kernels.linear_attention.contract import CHUNK, Options, Sizes

_VARIANTS = {variant.name: variant for variant in triton_kernels.VARIANTS}
_MIN_BLOCK_D = 64

MaybeTensor: TypeAlias = torch.Tensor | None


def forward(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    decay: MaybeTensor,
    initial_kv: MaybeTensor,
    initial_k_sum: MaybeTensor,
    out: MaybeTensor,
    factor: MaybeTensor,
    final_kv: MaybeTensor,
    final_k_sum: MaybeTensor,
    workspace: torch.Tensor,
    *,
    sizes: Sizes,
    options: Options,
) -> None:
    """Writes out, factor and the final state; the arguments are those of problem.h."""
    tensors = {"q": q, "k": k, "v": v, "decay": decay, "initial_kv": initial_kv}
    tensors |= {"initial_k_sum": initial_k_sum, "out": out, "factor": factor}
    tensors |= {"final_kv": final_kv, "final_k_sum": final_k_sum}
    arguments = _arguments(tensors, workspace, sizes, options)
    rows = sizes.batch * sizes.num_heads
    _launch("linear_attention_states", rows, sizes, arguments, splits=True)
    _launch("linear_attention_fwd", rows * sizes.num_chunks, sizes, arguments, splits=True)


def backward(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    decay: MaybeTensor,
    initial_kv: MaybeTensor,
    initial_k_sum: MaybeTensor,
    out: MaybeTensor,
    factor: MaybeTensor,
    grad_out: MaybeTensor,
    grad_final_kv: MaybeTensor,
    grad_final_k_sum: MaybeTensor,
    grad_q: MaybeTensor,
    grad_k: MaybeTensor,
    grad_v: MaybeTensor,
    grad_decay: MaybeTensor,
    grad_initial_kv: MaybeTensor,
    grad_initial_k_sum: MaybeTensor,
    workspace: torch.Tensor,
    *,
    sizes: Sizes,
    options: Options,
) -> None:
    """Writes the gradients; the arguments are those of problem.h."""
    tensors = {"q": q, "k": k, "v": v, "decay": decay, "initial_kv": initial_kv}
    tensors |= {"initial_k_sum": initial_k_sum, "out": out, "factor": factor}
    tensors |= {"grad_out": grad_out, "grad_final_kv": grad_final_kv}
    tensors |= {"grad_final_k_sum": grad_final_k_sum, "grad_q": grad_q, "grad_k": grad_k}
    tensors |= {"grad_v": grad_v, "grad_decay": grad_decay, "grad_initial_kv": grad_initial_kv}
    tensors |= {"grad_initial_k_sum": grad_initial_k_sum, "final_kv": None, "final_k_sum": None}
    arguments = _arguments(tensors, workspace, sizes, options)
    rows, chunks = sizes.batch * sizes.num_heads, sizes.num_chunks
    _launch("linear_attention_states", rows, sizes, arguments, splits=True)
    _launch("linear_attention_bwd_sums", rows * chunks, sizes, arguments)
    _launch("linear_attention_bwd_states", rows, sizes, arguments, splits=True)
    kv_rows = sizes.batch * sizes.num_kv_heads
    _launch("linear_attention_bwd_v", kv_rows * chunks, sizes, arguments, splits=True)
    _launch("linear_attention_bwd_k", kv_rows * chunks, sizes, arguments)
    _launch("linear_attention_bwd_q", rows * chunks, sizes, arguments)
    if arguments["wants_decay"]:
        _run(_VARIANTS["linear_attention_bwd_decay"], rows, arguments)


def _arguments(
    tensors: dict[str, Any], workspace: torch.Tensor, sizes: Sizes, options: Options
) -> dict[str, Any]:
    """All that the kernels take, by name."""
    tensors |= _split(workspace, sizes, tensors["q"].dtype)
    # An output that is not wanted is empty, and what is not given is None.
    given = {name for name, x in tensors.items() if x is not None and x.numel()}
    nothing = workspace.new_empty((16,), dtype=torch.float32)
    pointers = {f"{name}_ptr": nothing if x is None else x for name, x in tensors.items()}
    numbers = {name: size for name, size in sizes._asdict().items() if name != "batch"}
    numbers |= {name: float(getattr(options, name)) for name in ("eps", "scale")}
    numbers |= {name: int(getattr(options, name)) for name in ("causal", "normalize")}
    numbers |= {"feature_map": options.feature_map, "num_parts": 2 * sizes.num_chunks}
    numbers |= {
        flag: int(name in given)
        for flag, name in (
            ("has_decay", "decay"),
            ("has_initial", "initial_kv"),
            ("has_final", "final_kv"),
            ("has_grad_final", "grad_final_kv"),
            ("wants_decay", "grad_decay"),
            ("wants_initial", "grad_initial_kv"),
        )
    }
    return pointers | numbers


def _split(workspace: torch.Tensor, sizes: Sizes, dtype: torch.dtype) -> dict[str, MaybeTensor]:
    """The parts of the workspace; see contract.workspace_bytes."""
    slots = sizes.batch * sizes.num_heads * sizes.num_chunks
    parts = {"states": (sizes.key_dim * sizes.value_dim, dtype)}
    parts |= {"k_sums": (sizes.key_dim, torch.float32)}
    parts |= {f"grad_{name}": part for name, part in parts.items()}
    parts |= {"grad_sums": (CHUNK, torch.float32), "decay_parts": (2, torch.float32)}
    found, begin = {}, 0
    for name, (elements, part_dtype) in parts.items():
        end = begin + slots * elements * part_dtype.itemsize
        found[name] = workspace[begin:end].view(part_dtype) if end <= len(workspace) else None
        begin = end
    return found


def _launch(
    kernel: str, programs: int, sizes: Sizes, arguments: dict[str, Any], *, splits: bool = False
) -> None:
    """Runs the variant that fits; `splits`: so many programs for each block of value channels."""
    dtype = str(arguments["q_ptr"].dtype).removeprefix("torch.")
    widest = max(sizes.key_dim, sizes.value_dim, _MIN_BLOCK_D)
    variant = _VARIANTS[f"{kernel}_{dtype}_d{triton.next_power_of_2(widest)}"]
    blocks = triton.cdiv(sizes.value_dim, variant.constexprs["BLOCK_V"]) if splits else 1
    _run(variant, programs * blocks, arguments)


def _run(variant: triton_kernels.Variant, programs: int, arguments: dict[str, Any]) -> None:
    if programs:
        variant.kernel[(programs,)](
            **{name: arguments[name] for name in variant.signature},
            **variant.constexprs,
            num_warps=variant.num_warps,
            num_stages=variant.num_stages,
        )
