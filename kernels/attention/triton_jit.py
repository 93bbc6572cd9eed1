"""Runs attention's Triton kernels through Triton itself, on torch tensors.

For tests and for work on the kernels: with TRITON_INTERPRET=1 on CPU tensors, otherwise compiled
just in time for CUDA tensors. `torch_op` and `jax_op` launch the same variants from cubins, and
triton.cc does in C++ what is done here.
"""

from typing import Any, NamedTuple

import torch
import triton

from kernels.attention import contract, triton_kernels
from kernels.attention.contract import UNBOUNDED, Extras, Options, Sizes

_DEFAULT_ARCH = 90


class _Call(NamedTuple):
    """One call: what all of its launches share."""

    sizes: Sizes
    options: Options
    extras: Extras
    dtype: str
    arguments: dict[str, Any]

    @property
    def block_d(self) -> int:
        return max(32, int(triton.next_power_of_2(self.sizes.head_dim)))


def forward(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    out: torch.Tensor,
    lse: torch.Tensor,
    *,
    sizes: Sizes,
    options: Options,
    extras: Extras,
) -> None:
    """Writes out and lse; the arguments are those of the native code (problem.h)."""
    call = _make_call(q, sizes, options, extras)
    fused = options.rotary_dim > 0 and not contract.rotates_first("forward", sizes, options)
    if options.rotary_dim and not fused:
        q, k = _rotate(call, q), _rotate(call, k)
    call.arguments.update(q_ptr=q, k_ptr=k, v_ptr=v, out_ptr=out, lse_ptr=lse)
    flavour = _needed(options, extras)
    if fused or sizes.seq_q <= triton_kernels.DECODE_QUERIES:
        flavour = triton_kernels.DECODE
    _launch_blocks(call, "attention_fwd", flavour, "BLOCK_Q")


def backward(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    out: torch.Tensor,
    lse: torch.Tensor,
    grad_out: torch.Tensor,
    grad_lse: torch.Tensor | None,
    grad_q: torch.Tensor,
    grad_k: torch.Tensor,
    grad_v: torch.Tensor,
    grad_slopes: torch.Tensor | None,
    delta: torch.Tensor,
    *,
    sizes: Sizes,
    options: Options,
    extras: Extras,
) -> None:
    """Writes grad_q, grad_k, grad_v, grad_slopes and the workspace delta."""
    call = _make_call(q, sizes, options, extras)
    if options.rotary_dim:
        q, k = _rotate(call, q), _rotate(call, k)
    call.arguments.update(
        q_ptr=q, k_ptr=k, v_ptr=v, out_ptr=out, lse_ptr=lse, grad_out_ptr=grad_out,
        grad_lse_ptr=lse if grad_lse is None else grad_lse, has_grad_lse=int(grad_lse is not None),
        grad_q_ptr=grad_q, grad_k_ptr=grad_k, grad_v_ptr=grad_v,
        grad_slopes_ptr=lse if grad_slopes is None else grad_slopes,
        has_grad_slopes=int(grad_slopes is not None), delta_ptr=delta,
    )  # fmt: skip
    flavour = _needed(options, extras)
    _launch_blocks(call, "attention_bwd_delta", flavour, "BLOCK_Q")
    _launch_blocks(call, "attention_bwd_kv", flavour, "BLOCK_K")
    _launch_blocks(call, "attention_bwd_q", flavour, "BLOCK_Q")
    if options.rotary_dim:
        for gradient in (grad_q, grad_k):
            _rotate(call, gradient, back_to=gradient)


def _needed(options: Options, extras: Extras) -> int:
    if options.softcap or options.dropout_rate or extras.q_segments is not None:
        return triton_kernels.FULL
    has_alibi = extras.alibi_slopes is not None
    if has_alibi or options.softmax_scale < triton_kernels.LEAST_PLAIN_SCALE:
        return triton_kernels.ALIBI
    return triton_kernels.PLAIN


def _make_call(q: torch.Tensor, sizes: Sizes, options: Options, extras: Extras) -> _Call:
    dtype = str(q.dtype).removeprefix("torch.")
    # Null pointers in C++; Triton wants an array of the type.
    no_floats = torch.zeros(1, dtype=torch.float32, device=q.device)
    no_ints = torch.zeros(1, dtype=torch.int32, device=q.device)
    everywhere = sizes.seq_q + sizes.seq_k
    left, right = (
        everywhere if side == UNBOUNDED else min(side, everywhere)
        for side in (options.window_left, options.window_right)
    )
    arguments = {name: size for name, size in sizes._asdict().items() if name != "batch"}
    arguments |= {
        "alibi_slopes_ptr": no_floats if extras.alibi_slopes is None else extras.alibi_slopes,
        "rope_cos_ptr": no_floats if extras.rope_cos is None else extras.rope_cos,
        "rope_sin_ptr": no_floats if extras.rope_sin is None else extras.rope_sin,
        "q_segments_ptr": no_ints if extras.q_segments is None else extras.q_segments,
        "kv_segments_ptr": no_ints if extras.kv_segments is None else extras.kv_segments,
        "dropout_seeds_ptr": _seeds(extras, no_ints),
        "softmax_scale": options.softmax_scale,
        "window_left": left,
        "window_right": right,
        "softcap": options.softcap,
        "dropout_threshold": _signed(int(options.dropout_rate * 2**32)),
        "dropout_scale": 1.0 / (1.0 - options.dropout_rate),
        "has_alibi": int(extras.alibi_slopes is not None),
        "has_segments": int(extras.q_segments is not None),
        "rotary_dim": options.rotary_dim,
        "rotary_interleaved": int(options.rotary_interleaved),
    }
    return _Call(sizes, options, extras, dtype, arguments)


def _seeds(extras: Extras, no_ints: torch.Tensor) -> torch.Tensor:
    return no_ints if extras.dropout_seeds is None else extras.dropout_seeds.view(torch.int32)


def _signed(bits: int) -> int:
    """The int32 with the bits of an uint32."""
    return bits - 2**32 if bits >= 2**31 else bits


def _rotate(call: _Call, x: torch.Tensor, back_to: torch.Tensor | None = None) -> torch.Tensor:
    """Returns q or k rotated, or writes a gradient rotated back."""
    rotated = torch.empty_like(x) if back_to is None else back_to
    batch, seq_len, num_heads, _ = x.shape
    variant = _find(call, "attention_rotate", triton_kernels.PLAIN)
    other = call.sizes.seq_q + call.sizes.seq_k - seq_len
    arguments = {
        **call.arguments,
        "x_ptr": x,
        "rotated_ptr": rotated,
        "seq_len": seq_len,
        "num_heads": num_heads,
        "first_row": max(other - seq_len, 0),
        "direction": 1.0 if back_to is None else -1.0,
    }
    blocks = triton.cdiv(seq_len * num_heads, variant.constexprs["BLOCK_ROWS"])
    _launch(variant, blocks * batch, arguments)
    return rotated


def _launch_blocks(call: _Call, kernel: str, needed: int, block: str) -> None:
    """Runs one program for each block of the queries, or of the keys, of each head."""
    sizes = call.sizes
    seq_len, num_heads = sizes.seq_q, sizes.num_heads
    if block == "BLOCK_K":
        seq_len, num_heads = sizes.seq_k, sizes.num_kv_heads
    flavour = triton_kernels.choose_flavour(needed, call.dtype, call.block_d)
    variant = _find(call, kernel, flavour)
    blocks = triton.cdiv(seq_len, variant.constexprs[block])
    _launch(variant, blocks * num_heads * sizes.batch, call.arguments)


def _find(call: _Call, kernel: str, flavour: int) -> triton_kernels.Variant:
    """The variant for the GPU at hand, as the native launcher chooses it."""
    arch = _DEFAULT_ARCH
    if torch.cuda.is_available():
        major, _ = torch.cuda.get_device_capability()
        arch = max(a for a in triton_kernels.ARCHS if a // 10 <= major)
    name = triton_kernels.variant_name(kernel, flavour, call.dtype, call.block_d)
    return next(v for v in triton_kernels.VARIANTS if v.name == name and arch in v.archs)


def _launch(variant: triton_kernels.Variant, programs: int, arguments: dict[str, Any]) -> None:
    if programs:
        variant.kernel[(programs,)](
            **{name: arguments[name] for name in variant.signature},
            **variant.constexprs,
            num_warps=variant.num_warps,
            num_stages=variant.num_stages,
        )
