"""The oracle and the bar of attention's tests, for every backend; equality_jax.py runs JAX.

The rule is FlashAttention's: the error against float64 is at most twice that of a plain
implementation in the same precision, plus a few roundings.

Reference: flash-attention's tests/cute/test_flash_attn.py.
"""

import zlib
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch

from kernels.attention import contract, reference, torch_op
from kernels.attention.contract import Extras, Options, Sizes
from kernels.attention.rope import Rope, RopeTables, rope_tables
from kernels.attention.shapes import FULL, Features

# Allowed error as a multiple of the plain implementation's, which rounds in the same places but in
# another order.
ERROR_FACTOR = 2.0

# Allowed besides: this many roundings of the largest value in the dtype, and as many in the type of
# the sums, which grow with the square root of the longest sum. grad_q and grad_k need the latter:
# they add up differences of two sums over head_dim, equal ones when a query sees a single key,
# where the plain implementation is exact.
ROUNDINGS = 4

NAMES = ("out", "lse", "grad_q", "grad_k", "grad_v", "grad_slopes")

ROPE_BASE = 100.0
ROPE_OFFSET = 3
DROPOUT_SEED = 0xC0FFEE


class Case(NamedTuple):
    """One problem. Tensors that a framework differentiates hold values of `dtype`, in float64."""

    sizes: Sizes
    dtype: torch.dtype
    features: Features
    q: torch.Tensor
    k: torch.Tensor
    v: torch.Tensor
    slopes: torch.Tensor | None  # [num_heads], values of float32.
    segments: tuple[torch.Tensor, torch.Tensor] | None
    grad_out: torch.Tensor
    grad_lse: torch.Tensor

    def differentiable(self) -> tuple[torch.Tensor, ...]:
        """q, k, v and, if there are, slopes, in the dtypes in which a framework gets them."""
        arrays = [x.to(self.dtype) for x in (self.q, self.k, self.v)]
        if self.slopes is not None:
            arrays.append(self.slopes.to(sum_dtype(self.dtype)))
        return tuple(arrays)


# What `expect` and `errors(case, plain)` return may be handed on: they take most of the time.
Expected = tuple[reference.Array, ...]

# A case -> out, lse, grad_q, grad_k, grad_v and, with ALiBi, grad_slopes.
Runner = Callable[[Case], tuple[torch.Tensor, ...]]


def make_case(sizes: Sizes, dtype: torch.dtype, features: Features = FULL) -> Case:
    """Draws a problem from the normal distribution, the same one at each call."""
    seed = zlib.crc32(repr((sizes, features)).encode())
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype).double()

    def segments(seq_len: int) -> torch.Tensor:
        drawn = torch.randint(-1, 3, (sizes.batch, seq_len), generator=generator)
        return drawn.sort(dim=1, descending=True).values.to(torch.int32)

    q_shape = (sizes.batch, sizes.seq_q, sizes.num_heads, sizes.head_dim)
    kv_shape = (sizes.batch, sizes.seq_k, sizes.num_kv_heads, sizes.head_dim)
    return Case(
        sizes,
        dtype,
        features,
        normal(*q_shape),
        normal(*kv_shape),
        normal(*kv_shape),
        normal(sizes.num_heads).abs().float().double() / 8 if features.alibi else None,
        (segments(sizes.seq_q), segments(sizes.seq_k)) if features.segments else None,
        normal(*q_shape),
        normal(sizes.batch, sizes.num_heads, sizes.seq_q),
    )


def sum_dtype(dtype: torch.dtype) -> torch.dtype:
    """The type of the sums."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def rope_of(case: Case, make: Callable[[np.ndarray], Any]) -> Rope | RopeTables | None:
    """The `rope` argument of a case; `make` makes an array of the framework."""
    rope = case.features.rope
    if rope is None:
        return None
    rotary_dim = _rotary_dim(case)
    if rope == "partial":
        positions = max(case.sizes.seq_q, case.sizes.seq_k) + 2
        tables = rope_tables(positions, rotary_dim, base=ROPE_BASE, offset=ROPE_OFFSET)
        return RopeTables(*map(make, tables))
    return Rope(ROPE_BASE, ROPE_OFFSET, rotary_dim, interleaved=rope == "interleaved")


def _rotary_dim(case: Case) -> int:
    if case.features.rope is None:
        return 0
    half = case.sizes.head_dim // 2
    return 2 * max(1, half // 2 if case.features.rope == "partial" else half)


def options_of(case: Case, make: Callable[[np.ndarray], Any]) -> dict[str, Any]:
    """The arguments of a case but for the slopes; `make` makes an array of the framework."""
    f = case.features
    arguments: dict[str, Any] = {"causal": f.causal, "softmax_scale": f.softmax_scale}
    arguments |= {"window": f.window, "softcap": f.softcap, "dropout_rate": f.dropout_rate}
    arguments["rope"] = rope_of(case, make)
    if case.segments is not None:
        arguments["segment_ids"] = tuple(make(x.numpy()) for x in case.segments)
    if f.dropout_rate:
        arguments["dropout_seed"] = DROPOUT_SEED
    return arguments


def lowered(case: Case) -> tuple[Options, Extras]:
    """What the specification takes, by a path of its own."""
    sizes, f = case.sizes, case.features
    left, right = f.window or (None, None)
    rotary_dim = _rotary_dim(case)
    options = Options(
        softmax_scale=sizes.head_dim**-0.5 if f.softmax_scale is None else f.softmax_scale,
        window_left=-1 if left is None else left,
        window_right=0 if f.causal else -1 if right is None else right,
        softcap=f.softcap or 0.0,
        dropout_rate=f.dropout_rate,
        rotary_dim=rotary_dim,
        rotary_interleaved=f.rope == "interleaved",
    )
    positions = max(sizes.seq_q, sizes.seq_k)
    tables = rope_tables(positions, rotary_dim, base=ROPE_BASE, offset=ROPE_OFFSET)
    seeds = DROPOUT_SEED + contract.SEED_STEP * np.arange(sizes.batch)
    cos, sin = tables if rotary_dim else (None, None)
    q_segments, kv_segments = case.segments or (None, None)
    extras = Extras(
        alibi_slopes=None if case.slopes is None else case.slopes.expand(sizes.batch, -1).numpy(),
        rope_cos=cos,
        rope_sin=sin,
        q_segments=None if q_segments is None else q_segments.numpy(),
        kv_segments=None if kv_segments is None else kv_segments.numpy(),
        dropout_seeds=seeds if f.dropout_rate else None,
    )
    return options, extras


def expect(case: Case) -> Expected:
    """Returns the results by the specification."""
    q, k, v, grad_out, grad_lse = (
        x.numpy() for x in (case.q, case.k, case.v, case.grad_out, case.grad_lse)
    )
    options, extras = lowered(case)
    out, lse = reference.forward(q, k, v, options, extras)
    grads = reference.backward(q, k, v, grad_out, options, extras, grad_lse)
    slopes = () if case.slopes is None else (grads.slopes.sum(axis=0),)
    return out, lse, grads.q, grads.k, grads.v, *slopes


def errors(case: Case, run: Runner, expected: Expected | None = None) -> dict[str, float]:
    """Returns the largest absolute error of each result against the float64 reference.

    Asserts shapes and dtypes on the way. A NaN counts as an infinite error.
    """
    expected = expected or expect(case)
    found = {}
    for name, want, got in zip(NAMES, expected, run(case), strict=False):
        is_sum = name in ("lse", "grad_slopes") and run is not plain
        assert got.dtype == (sum_dtype(case.dtype) if is_sum else case.dtype), name
        assert tuple(got.shape) == want.shape, name
        found[name] = _largest_difference(got.detach().cpu().double().numpy(), want)
    assert len(found) == len(expected)
    return found


def _largest_difference(got: np.ndarray, want: np.ndarray) -> float:
    """Infinities agree only with themselves."""
    difference = np.abs(np.subtract(got, want, where=got != want, out=np.zeros(want.shape)))
    return float(np.max(np.nan_to_num(difference, nan=np.inf), initial=0.0))


def allowed(
    case: Case, expected: Expected | None = None, plain_errors: dict[str, float] | None = None
) -> dict[str, float]:
    """Returns the bar for each of the errors of a case."""
    expected = expected or expect(case)
    plain_errors = plain_errors or errors(case, plain, expected)
    rounding = torch.finfo(case.dtype).eps
    rounding += torch.finfo(sum_dtype(case.dtype)).eps * _longest_sum(case.sizes) ** 0.5
    return {
        name: ERROR_FACTOR * plain_errors[name] + ROUNDINGS * rounding * max(1.0, _largest(want))
        for name, want in zip(NAMES, expected, strict=False)
    }


def _largest(x: np.ndarray) -> float:
    return float(np.max(np.abs(x), initial=0.0, where=np.isfinite(x)))


def _longest_sum(sizes: Sizes) -> int:
    group = sizes.num_heads // sizes.num_kv_heads
    return max(sizes.head_dim, sizes.seq_k, sizes.seq_q * group)


def plain(case: Case) -> tuple[torch.Tensor, ...]:
    """Attention by the textbook in the precision of the inputs, with torch's own gradients."""
    leaves = [x.to(case.dtype).clone().requires_grad_() for x in case.differentiable()]
    q, k, v, *slopes = leaves
    f, sizes = case.features, case.sizes
    options, extras = lowered(case)
    shift = sizes.seq_k - sizes.seq_q
    q = _turn(q, max(shift, 0), options, extras)
    k = _turn(k, max(-shift, 0), options, extras)
    group = sizes.num_heads // sizes.num_kv_heads
    keys, values = (x.repeat_interleave(group, dim=2).transpose(1, 2) for x in (k, v))
    scores = q.transpose(1, 2) @ keys.transpose(2, 3) * options.softmax_scale
    if f.softcap:
        scores = f.softcap * torch.tanh(scores / f.softcap)
    distance = torch.arange(sizes.seq_q)[:, None] + shift - torch.arange(sizes.seq_k)
    if slopes:
        scores = scores - slopes[0][:, None, None] * distance.abs().to(case.dtype)
    visible = torch.from_numpy(reference.visible(sizes[:3], options, extras))[:, None]
    sees_any = visible.any(dim=-1, keepdim=True)
    scores = scores.masked_fill(~visible & sees_any, -torch.inf)
    lse = torch.logsumexp(scores, dim=-1) if sizes.seq_k else scores.sum(-1)
    lse = lse.masked_fill(~sees_any[..., 0], -torch.inf)
    probabilities = torch.softmax(scores, dim=-1).masked_fill(~sees_any, 0.0)
    keep = reference.dropout_keep(tuple(scores.shape), options, extras)
    out = (probabilities * torch.from_numpy(keep).to(case.dtype) @ values).transpose(1, 2)
    return out, lse, *_gradients(case, out, lse, leaves)


def _turn(x: torch.Tensor, first_row: int, options: Options, extras: Extras) -> torch.Tensor:
    """RoPE on complex numbers."""
    if not options.rotary_dim:
        return x
    turned, rest = x[..., : options.rotary_dim], x[..., options.rotary_dim :]
    rows = slice(first_row, first_row + x.shape[1])
    cos, sin = (
        torch.from_numpy(t)[rows, None].to(x.dtype) for t in (extras.rope_cos, extras.rope_sin)
    )
    if options.rotary_interleaved:
        first, second = turned[..., 0::2], turned[..., 1::2]
        pairs = torch.stack((first * cos - second * sin, first * sin + second * cos), dim=-1)
        return torch.cat((pairs.flatten(-2), rest), dim=-1)
    first, second = turned.chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, first * sin + second * cos, rest), dim=-1)


def _gradients(
    case: Case, out: torch.Tensor, lse: torch.Tensor, leaves: list[torch.Tensor]
) -> tuple[torch.Tensor, ...]:
    grads = (case.grad_out.to(out), case.grad_lse.to(lse))
    return torch.autograd.grad((out, lse), leaves, grads, materialize_grads=True)


def through_torch(case: Case, device: str = "cpu") -> tuple[torch.Tensor, ...]:
    """Runs torch_op."""
    leaves = [x.to(device).clone().requires_grad_() for x in case.differentiable()]
    q, k, v, *slopes = leaves
    options = options_of(case, lambda x: torch.from_numpy(x).to(device))
    out, lse = torch_op.attention(
        q, k, v, alibi_slopes=slopes[0] if slopes else None, return_lse=True, **options
    )
    return out, lse, *_gradients(case, out, lse, leaves)


class Table:
    """The largest errors seen of each backend and dtype, and the one that came nearest its bar."""

    def __init__(self) -> None:
        self._rows: dict[tuple[str, str], dict[str, float]] = {}
        self._cases: dict[tuple[str, str], int] = {}
        self._worst = 0.0
        self._worst_case = "none"

    def add(self, backend: str, dtype: torch.dtype, found: dict[str, float]) -> None:
        """Takes the errors of one case in."""
        key = (backend, str(dtype).removeprefix("torch."))
        row = self._rows.setdefault(key, {})
        self._cases[key] = self._cases.get(key, 0) + 1
        for name, error in found.items():
            row[name] = max(error, row.get(name, 0.0))

    def compare(self, case: str, found: dict[str, float], bars: dict[str, float]) -> None:
        """Takes in how the errors of one case compare with what is allowed."""
        for name, error in found.items():
            if (ratio := ERROR_FACTOR * error / bars[name]) > self._worst:
                self._worst, self._worst_case = ratio, f"{name} of {case}"

    def __str__(self) -> str:
        header = f"{'backend':<28}{'dtype':<10}{'cases':>6}" + "".join(f"{n:>13}" for n in NAMES)
        lines = [
            f"{backend:<28}{dtype:<10}{self._cases[backend, dtype]:>6}"
            + "".join(f"{row[name]:>13.1e}" for name in NAMES if name in row)
            for (backend, dtype), row in sorted(self._rows.items())
        ]
        title = "largest absolute error against float64"
        worst = (
            f"worst error ratio: {self._worst:.2f} of {ERROR_FACTOR:.0f} times the plain "
            f"implementation's (and its roundings), {self._worst_case}"
        )
        return "\n".join(["", title, header, *lines, worst, ""])
