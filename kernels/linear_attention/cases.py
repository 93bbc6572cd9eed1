"""Linear attention's test problems and their oracle; kernels/testing holds backends against it."""

import dataclasses
import zlib
from collections.abc import Callable
from typing import Any

import torch

from kernels.linear_attention import reference
from kernels.linear_attention.contract import (
    Extras,
    Sizes,
    State,
    resolve_options,
    state_shapes,
)
from kernels.linear_attention.shapes import Features
from kernels.testing.accuracy import Oracle, sum_dtype


@dataclasses.dataclass(frozen=True)
class Case:
    """One problem; see `kernels.testing.accuracy.Case`.

    Attributes:
      inputs: q, k, v and, where the features ask for them, decay, initial_kv and initial_k_sum.
      cotangents: of out and, with a state, kv and k_sum.
    """

    sizes: Sizes
    dtype: torch.dtype
    features: Features
    inputs: dict[str, torch.Tensor]
    cotangents: dict[str, torch.Tensor]

    sums = frozenset({"decay", "initial_kv", "initial_k_sum", "kv", "k_sum"})

    @property
    def longest_sum(self) -> int:
        return max(self.sizes.seq_len * self.sizes.num_heads, self.sizes.key_dim)

    def num_roundings(self, name: str) -> float:
        # The decay's gradient is a sum over all tokens, which cancel; and but a few numbers, of
        # which the plain implementation may get each right by chance.
        return max(self.sizes.seq_len, 1) ** 0.5 if name == "grad_decay" else 1.0

    def call(
        self,
        linear_attention: Callable[..., Any],
        array: Callable[[Any], Any],
        *,
        initial_kv: Any = None,
        initial_k_sum: Any = None,
        **inputs: Any,
    ) -> dict[str, Any]:
        options = self.features.arguments()
        if not self.features.state:
            return {"out": linear_attention(**inputs, **options)}
        initial = State(initial_kv, initial_k_sum)
        out, state = linear_attention(**inputs, initial_state=initial, **options)
        return {"out": out, **state._asdict()}

    def oracle(self) -> Oracle:
        features = self.features
        q, k, v = (self.inputs[name].numpy() for name in "qkv")
        extras = {n: x.numpy() for n, x in self.inputs.items() if n in Extras._fields}
        grad_out, *grad_state = (x.numpy() for x in self.cotangents.values())
        options = resolve_options(
            self.sizes,
            causal=features.causal,
            feature_map=features.feature_map,
            normalize=features.normalize,
            eps=features.eps,
            scale=None,
            has_decay=features.decay,
        )
        grad_final = State(*grad_state) if features.state else None
        (out, state), gradients = reference.forward_backward(
            q, k, v, grad_out, options, Extras(**extras), grad_final
        )
        results = {"out": out, **(state._asdict() if features.state else {})}
        found = gradients._asdict()
        return {**results, **{f"grad_{name}": found[name] for name in self.inputs}}

    def plain(
        self,
        *,
        q: torch.Tensor,
        k: torch.Tensor,
        v: torch.Tensor,
        decay: torch.Tensor | None = None,
        initial_kv: torch.Tensor | None = None,
        initial_k_sum: torch.Tensor | None = None,
    ) -> dict[str, torch.Tensor]:
        """The quadratic formula."""
        features, dtype, seq_len = self.features, q.dtype, self.sizes.seq_len
        group = self.sizes.num_heads // self.sizes.num_kv_heads
        phi = {"elu": lambda x: torch.nn.functional.elu(x) + 1, "relu": torch.relu}.get(
            features.feature_map, lambda x: x
        )
        q, k = phi(q).transpose(1, 2), phi(k).repeat_interleave(group, dim=2).transpose(1, 2)
        v = v.repeat_interleave(group, dim=2).transpose(1, 2)
        if decay is None:
            decay = torch.ones(q.shape[:2], dtype=sum_dtype(dtype))
        decay = decay[..., None]
        tokens = torch.arange(seq_len)
        distance = tokens[:, None] - tokens[None, :]
        if features.causal:
            visible = (distance >= 0).to(dtype)
            age, rest, length = tokens + 1, tokens.flip(0), seq_len
        else:
            visible = torch.ones_like(distance, dtype=dtype)
            age, rest, length = tokens * 0, tokens * 0, 0
        powers = (decay[..., None] ** (distance.clamp(min=0) * features.causal)).to(dtype)
        weights = q @ k.transpose(2, 3) * powers * visible
        age, rest = ((decay**n).to(dtype)[..., None] for n in (age, rest))
        out, total = weights @ v, weights.sum(-1)
        if initial_kv is not None and initial_k_sum is not None:
            out = out + age * (q @ initial_kv.to(dtype))
            total = total + ((age * q) @ initial_k_sum.to(dtype)[..., None])[..., 0]
        scale = q.shape[-1] ** -0.5
        out = out / (total + features.eps)[..., None] if features.normalize else out * scale
        out = out.transpose(1, 2)
        if initial_kv is None or initial_k_sum is None:
            return {"out": out}
        old = decay**length
        kv = old[..., None] * initial_kv + ((rest * k).transpose(2, 3) @ v).to(initial_kv.dtype)
        k_sum = old * initial_k_sum + (rest * k).sum(2).to(initial_kv.dtype)
        return {"out": out, "kv": kv, "k_sum": k_sum}


def make_case(sizes: Sizes, dtype: torch.dtype, features: Features) -> Case:
    """Draws a problem from the normal distribution, the same one at each call."""
    generator = torch.Generator().manual_seed(zlib.crc32(repr((sizes, features)).encode()))
    heads = (sizes.batch, sizes.seq_len, sizes.num_heads)
    kv_heads = (sizes.batch, sizes.seq_len, sizes.num_kv_heads)

    def draw(shape: tuple[int, ...], dtype: torch.dtype = dtype) -> torch.Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype).double()

    q, k = draw((*heads, sizes.key_dim)), draw((*kv_heads, sizes.key_dim))
    v, grad_out = draw((*kv_heads, sizes.value_dim)), draw((*heads, sizes.value_dim))
    # From 0.8 to 1: so that neither the near nor the far decides alone.
    decay = 1 - 0.2 * torch.rand((sizes.batch, sizes.num_heads), generator=generator)
    kv, k_sum, grad_kv, grad_k_sum = (
        draw(s, torch.float32) for s in (*state_shapes(sizes), *state_shapes(sizes))
    )
    inputs, cotangents = {"q": q, "k": k, "v": v}, {"out": grad_out}
    if features.decay:
        inputs["decay"] = decay.double()
    if features.state:
        # A state's k_sum is a sum of features, and those are positive where it counts.
        inputs |= {"initial_kv": kv, "initial_k_sum": k_sum.abs()}
        cotangents |= {"kv": grad_kv, "k_sum": grad_k_sum}
    return Case(sizes, dtype, features, inputs, cotangents)
