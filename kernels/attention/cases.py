"""Attention's test problems and their oracle; kernels/testing holds backends against it."""

import dataclasses
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from kernels.attention import contract, reference
from kernels.attention.contract import Extras, Options, Sizes
from kernels.attention.rope import Rope, RopeTables, rope_tables
from kernels.attention.shapes import FULL, Features
from kernels.testing.accuracy import Oracle, sum_dtype

ROPE_BASE = 100.0
ROPE_OFFSET = 3
DROPOUT_SEED = 0xC0FFEE


@dataclasses.dataclass(frozen=True)
class Case:
    """One problem; see `kernels.testing.accuracy.Case`.

    Attributes:
      inputs: q, k, v and, with ALiBi, slopes [num_heads].
      cotangents: of out and lse.
      segments: of queries and keys.
    """

    sizes: Sizes
    dtype: torch.dtype
    features: Features
    inputs: dict[str, torch.Tensor]
    cotangents: dict[str, torch.Tensor]
    segments: tuple[torch.Tensor, torch.Tensor] | None

    sums = frozenset({"lse", "slopes"})

    @property
    def longest_sum(self) -> int:
        group = self.sizes.num_heads // self.sizes.num_kv_heads
        return max(self.sizes.head_dim, self.sizes.seq_k, self.sizes.seq_q * group)

    def num_roundings(self, name: str) -> float:
        return 1.0

    def call(
        self,
        attention: Callable[..., Any],
        array: Callable[[np.ndarray], Any],
        *,
        slopes: Any = None,
        **qkv: Any,
    ) -> dict[str, Any]:
        options = self.options(array)
        out, lse = attention(**qkv, alibi_slopes=slopes, return_lse=True, **options)
        return {"out": out, "lse": lse}

    def options(self, array: Callable[[np.ndarray], Any]) -> dict[str, Any]:
        """Returns the arguments but for the inputs; `array` makes one of the framework."""
        f = self.features
        arguments: dict[str, Any] = {"causal": f.causal, "softmax_scale": f.softmax_scale}
        arguments |= {"window": f.window, "softcap": f.softcap, "dropout_rate": f.dropout_rate}
        arguments["rope"] = self._rope(array)
        if self.segments is not None:
            arguments["segment_ids"] = tuple(array(x.numpy()) for x in self.segments)
        if f.dropout_rate:
            arguments["dropout_seed"] = DROPOUT_SEED
        return arguments

    def _rope(self, array: Callable[[np.ndarray], Any]) -> Rope | RopeTables | None:
        rope = self.features.rope
        if rope is None:
            return None
        if rope == "partial":
            positions = max(self.sizes.seq_q, self.sizes.seq_k) + 2
            tables = rope_tables(positions, self._rotary_dim, base=ROPE_BASE, offset=ROPE_OFFSET)
            return RopeTables(*map(array, tables))
        return Rope(ROPE_BASE, ROPE_OFFSET, self._rotary_dim, interleaved=rope == "interleaved")

    @property
    def _rotary_dim(self) -> int:
        if self.features.rope is None:
            return 0
        half = self.sizes.head_dim // 2
        return 2 * max(1, half // 2 if self.features.rope == "partial" else half)

    def lowered(self) -> tuple[Options, Extras]:
        """Returns what the specification takes, by a path of its own."""
        sizes, f, slopes = self.sizes, self.features, self.inputs.get("slopes")
        left, right = f.window or (None, None)
        options = Options(
            softmax_scale=sizes.head_dim**-0.5 if f.softmax_scale is None else f.softmax_scale,
            window_left=-1 if left is None else left,
            window_right=0 if f.causal else -1 if right is None else right,
            softcap=f.softcap or 0.0,
            dropout_rate=f.dropout_rate,
            rotary_dim=self._rotary_dim,
            rotary_interleaved=f.rope == "interleaved",
        )
        positions = max(sizes.seq_q, sizes.seq_k)
        tables = rope_tables(positions, self._rotary_dim, base=ROPE_BASE, offset=ROPE_OFFSET)
        seeds = DROPOUT_SEED + contract.SEED_STEP * np.arange(sizes.batch)
        cos, sin = tables if self._rotary_dim else (None, None)
        q_segments, kv_segments = self.segments or (None, None)
        extras = Extras(
            alibi_slopes=None if slopes is None else slopes.expand(sizes.batch, -1).numpy(),
            rope_cos=cos,
            rope_sin=sin,
            q_segments=None if q_segments is None else q_segments.numpy(),
            kv_segments=None if kv_segments is None else kv_segments.numpy(),
            dropout_seeds=seeds if f.dropout_rate else None,
        )
        return options, extras

    def oracle(self) -> Oracle:
        q, k, v = (self.inputs[name].numpy() for name in "qkv")
        grad_out, grad_lse = (self.cotangents[name].numpy() for name in ("out", "lse"))
        (out, lse), grads = reference.forward_backward(
            q, k, v, grad_out, *self.lowered(), grad_lse=grad_lse
        )
        slopes = {"grad_slopes": grads.slopes.sum(axis=0)} if "slopes" in self.inputs else {}
        qkv = {"grad_q": grads.q, "grad_k": grads.k, "grad_v": grads.v}
        return {"out": out, "lse": lse, **qkv, **slopes}

    def plain(
        self,
        *,
        q: torch.Tensor,
        k: torch.Tensor,
        v: torch.Tensor,
        slopes: torch.Tensor | None = None,
    ) -> dict[str, torch.Tensor]:
        f, sizes = self.features, self.sizes
        options, extras = self.lowered()
        shift = sizes.seq_k - sizes.seq_q
        q = _turn(q, max(shift, 0), options, extras)
        k = _turn(k, max(-shift, 0), options, extras)
        group = sizes.num_heads // sizes.num_kv_heads
        keys, values = (x.repeat_interleave(group, dim=2).transpose(1, 2) for x in (k, v))
        scores = q.transpose(1, 2) @ keys.transpose(2, 3) * options.softmax_scale
        if f.softcap:
            scores = f.softcap * torch.tanh(scores / f.softcap)
        distance = torch.arange(sizes.seq_q)[:, None] + shift - torch.arange(sizes.seq_k)
        if slopes is not None:
            slopes = slopes.to(self.dtype)
            scores = scores - slopes[:, None, None] * distance.abs().to(self.dtype)
        visible = torch.from_numpy(reference.visible(sizes[:3], options, extras))[:, None]
        sees_any = visible.any(dim=-1, keepdim=True)
        scores = scores.masked_fill(~visible & sees_any, -torch.inf)
        lse = torch.logsumexp(scores, dim=-1) if sizes.seq_k else scores.sum(-1)
        lse = lse.masked_fill(~sees_any[..., 0], -torch.inf)
        probabilities = torch.softmax(scores, dim=-1).masked_fill(~sees_any, 0.0)
        keep = reference.dropout_keep(tuple(scores.shape), options, extras)
        out = (probabilities * torch.from_numpy(keep).to(self.dtype) @ values).transpose(1, 2)
        return {"out": out, "lse": lse.to(sum_dtype(self.dtype))}


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
    inputs = {"q": normal(*q_shape), "k": normal(*kv_shape), "v": normal(*kv_shape)}
    if features.alibi:  # Of values of float32.
        inputs["slopes"] = normal(sizes.num_heads).abs().float().double() / 8
    ids = (segments(sizes.seq_q), segments(sizes.seq_k)) if features.segments else None
    lse_shape = (sizes.batch, sizes.num_heads, sizes.seq_q)
    cotangents = {"out": normal(*q_shape), "lse": normal(*lse_shape)}
    return Case(sizes, dtype, features, inputs, cotangents, ids)


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
