"""Attention through PyTorch: ours and its peers, each as steps that can be timed."""

import contextlib
import functools
import importlib
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.attention.flex_attention import create_block_mask, flex_attention

from benchmarks.attention import cases
from benchmarks.attention.cases import Case, Inputs, make_segments, query_positions, visible
from benchmarks.attention.sides import (
    ALL_FEATURES,
    FLEX,
    OURS_ROTATED_BEFORE,
    OURS_TORCH,
    SDPA,
    Side,
    UnavailableError,
    pinned_to,
)
from benchmarks.harness.timing import Step
from kernels.attention import torch_op
from kernels.attention.rope import Rope, rope_tables

_SDPA_BACKENDS = {
    "flash": SDPBackend.FLASH_ATTENTION,
    "cudnn": SDPBackend.CUDNN_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
    "math": SDPBackend.MATH,
}

# Features of which SDPA knows nothing but a mask or a bias as an array.
_MASKED = frozenset({"alibi", "window", "segments"})


class _Setup(NamedTuple):
    """How a side does one case.

    Attributes:
      attention: the function that is timed.
      heads_first: whether its arrays are [B, H, S, D] instead of [B, S, H, D].
      differentiable: whether it has a backward pass.
      compiled: whether its first call compiles it, which then happens before it is timed.
    """

    attention: Callable[[Tensor, Tensor, Tensor], Tensor]
    heads_first: bool
    differentiable: bool = True
    compiled: bool = False


_Prepare = Callable[[Case, Inputs], _Setup]


def torch_sides(device: str, backends: tuple[str, ...]) -> dict[str, Side]:
    """Returns the sides that a device has.

    Args:
      device: "cpu" or "cuda".
      backends: of ours, each to be timed besides the one that dispatch chooses.
    """

    def side(prepare: _Prepare, features: frozenset[str] = ALL_FEATURES) -> Side:
        return Side(functools.partial(_step, device, prepare), OURS_TORCH, features)

    rope = frozenset({"rope"})
    sides = {
        OURS_TORCH: side(functools.partial(_ours, device)),
        OURS_ROTATED_BEFORE: side(functools.partial(_ours_rotated_before, device), rope),
    }
    for name in backends:
        sides[f"ours ({name}), torch"] = pinned_to(name, sides[OURS_TORCH], compiled=False)
    if device == "cpu":
        sides[SDPA] = side(functools.partial(_sdpa, device, None))
        sides[FLEX] = side(functools.partial(_flex, device), _MASKED)
        return sides
    for name, backend in _SDPA_BACKENDS.items():
        sides[f"{SDPA} {name}"] = side(functools.partial(_sdpa, device, backend))
    sides[FLEX] = side(functools.partial(_flex, device), _MASKED | {cases.PLAIN, "gqa"})
    flash = frozenset({cases.PLAIN, "window", "gqa", "decode"})
    sides["flash-attn"] = side(functools.partial(_flash_attn, "flash_attn"), flash | {"alibi"})
    sides["flash-attn 3"] = side(functools.partial(_flash_attn, "flash_attn_interface"), flash)
    return sides


def matmul_step(device: str, dtype: str, size: int) -> Step:
    """A square matrix product, the ceiling of what attention can reach."""
    a, b = (torch.randn(size, size, device=device).to(getattr(torch, dtype)) for _ in range(2))
    return Step(lambda: a @ b, _wait(device))


def _step(device: str, prepare: _Prepare, case: Case, inputs: Inputs, direction: str) -> Step:
    attention, heads_first, differentiable, compiled = prepare(case, inputs)
    if direction != "forward" and not differentiable:
        raise UnavailableError(f"has no backward pass on {device}")

    def place(x: np.ndarray) -> Tensor:
        tensor = torch.from_numpy(x).to(device, getattr(torch, case.dtype))
        return tensor.transpose(1, 2).contiguous() if heads_first else tensor

    def arrays(result: Any) -> list[np.ndarray]:
        results = result if isinstance(result, tuple) else (result,)
        placed = [x.transpose(1, 2) if heads_first else x for x in results]
        return [x.detach().float().cpu().numpy() for x in placed]

    leaves = [place(x) for x in (inputs.q, inputs.k, inputs.v)]
    if compiled:
        attention(*leaves)
    if direction == "forward":
        return Step(lambda: attention(*leaves), _wait(device), arrays)
    for leaf in leaves:
        leaf.requires_grad_()
    grad_out = place(inputs.grad_out)
    run: Callable[[], Any]
    if direction == "both":
        run = lambda: torch.autograd.grad(attention(*leaves), leaves, grad_out)  # noqa: E731
    else:
        out = attention(*leaves)
        run = lambda: torch.autograd.grad(out, leaves, grad_out, retain_graph=True)  # noqa: E731
    return Step(run, _wait(device), arrays)


def _wait(device: str) -> Callable[[Any], object]:
    return (lambda result: torch.cuda.synchronize()) if device == "cuda" else (lambda result: None)


# Ours.


def _ours(device: str, case: Case, inputs: Inputs) -> _Setup:
    options: dict[str, Any] = {"causal": case.causal}
    if case.feature == "alibi":
        options["alibi_slopes"] = torch.from_numpy(inputs.alibi_slopes).to(device)
    elif case.feature == "window":
        options["window"] = (cases.WINDOW_LEFT, 0)
    elif case.feature == "segments":
        options["segment_ids"] = torch.from_numpy(inputs.segment_ids).to(device)
    elif case.feature == "rope":
        options["rope"] = Rope()

    def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        out: Tensor = torch_op.attention(q, k, v, **options)
        return out

    return _Setup(attention, heads_first=False)


def _ours_rotated_before(device: str, case: Case, inputs: Inputs) -> _Setup:
    """RoPE as a pass of its own: where this is faster, fusing it does not pay."""
    rotate = _rotation(device, case, heads_first=False)

    def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        out: Tensor = torch_op.attention(rotate(q), rotate(k), v, causal=case.causal)
        return out

    return _Setup(attention, heads_first=False)


# Peers.


def _sdpa(device: str, backend: SDPBackend | None, case: Case, inputs: Inputs) -> _Setup:
    options: dict[str, Any] = {"is_causal": case.causal}
    if case.feature in _MASKED:
        options = {"attn_mask": _mask(case, inputs).to(device)}
    if case.sizes.num_heads != case.sizes.num_kv_heads:
        options["enable_gqa"] = True
    rotate = _rotation(device, case, heads_first=True) if case.feature == "rope" else _identity
    kernel = contextlib.nullcontext if backend is None else functools.partial(sdpa_kernel, backend)

    def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        with kernel():
            return torch.nn.functional.scaled_dot_product_attention(
                rotate(q), rotate(k), v, **options
            )

    return _Setup(attention, heads_first=True)


def _mask(case: Case, inputs: Inputs) -> Tensor:
    """Booleans [Sq, Sk]; for ALiBi a bias [1, H, Sq, Sk] in the dtype of q, SDPA's fastest."""
    seen = torch.from_numpy(visible(case))
    if case.feature != "alibi":
        return seen
    positions = torch.from_numpy(query_positions(case))
    distance = (positions[:, None] - torch.arange(case.sizes.seq_k)).abs()
    bias = -torch.from_numpy(inputs.alibi_slopes)[:, None, None] * distance
    return bias.masked_fill_(~seen, -math.inf).to(getattr(torch, case.dtype))[None]


def _flex(device: str, case: Case, inputs: Inputs) -> _Setup:
    sizes = case.sizes
    segments = torch.from_numpy(make_segments(sizes.seq_k)).to(device)
    slopes = torch.from_numpy(inputs.alibi_slopes).to(device)

    def seen(b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
        inside = i >= j if case.causal else i >= 0
        if case.feature == "window":
            inside = inside & (i - j <= cases.WINDOW_LEFT)
        if case.feature == "segments":
            inside = inside & (segments[i] == segments[j])
        return inside

    def biased(score: Tensor, b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
        return score - slopes[h] * (i - j).abs()

    mask = None
    if case.causal or case.feature in _MASKED:
        mask = create_block_mask(seen, None, None, sizes.seq_q, sizes.seq_k, device=device)
    # Forgets the graphs of other cases, or they would make it compile one for sizes that vary.
    torch.compiler.reset()
    attention = functools.partial(
        torch.compile(flex_attention, dynamic=False),
        score_mod=biased if case.feature == "alibi" else None,
        block_mask=mask,
        enable_gqa=sizes.num_heads != sizes.num_kv_heads,
    )
    return _Setup(attention, heads_first=True, differentiable=device != "cpu", compiled=True)


def _flash_attn(module: str, case: Case, inputs: Inputs) -> _Setup:
    try:
        function = importlib.import_module(module).flash_attn_func
    except ImportError as error:
        raise UnavailableError(f"the package {module} is not installed") from error
    options: dict[str, Any] = {"causal": case.causal}
    if case.feature == "alibi":
        options["alibi_slopes"] = torch.from_numpy(inputs.alibi_slopes).cuda()
    elif case.feature == "window":
        options["window_size"] = (cases.WINDOW_LEFT, 0)

    def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        result = function(q, k, v, **options)
        out: Tensor = result[0] if isinstance(result, tuple) else result
        return out

    return _Setup(attention, heads_first=False)


def _rotation(device: str, case: Case, *, heads_first: bool) -> Callable[[Tensor], Tensor]:
    """RoPE in the half layout, for sequences of one length."""
    dtype = getattr(torch, case.dtype)
    tables = rope_tables(case.sizes.seq_k, case.sizes.head_dim)
    cos, sin = (torch.from_numpy(table).to(device, dtype) for table in tables)
    if not heads_first:
        cos, sin = cos[:, None], sin[:, None]

    def rotate(x: Tensor) -> Tensor:
        left, right = x.chunk(2, dim=-1)
        return torch.cat((left * cos - right * sin, right * cos + left * sin), dim=-1)

    return rotate


def _identity(x: Tensor) -> Tensor:
    return x
