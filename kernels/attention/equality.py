"""The oracle and the bar of attention's tests, for every backend and framework.

The rule is FlashAttention's: the error against float64 is at most twice that of a plain
implementation in the same precision, plus a few roundings.

Reference: flash-attention's tests/cute/test_flash_attn.py.
"""

import zlib
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import torch

from kernels.attention import jax_op, reference, torch_op
from kernels.attention.contract import Sizes

# Allowed error as a multiple of the plain implementation's, which rounds in the same places but in
# another order.
ERROR_FACTOR = 2.0

# Allowed besides: this many roundings of the largest value in the dtype, and as many in the type of
# the sums, which grow with the square root of the longest sum. grad_q and grad_k need the latter:
# they add up differences of two sums over head_dim, equal ones when a query sees a single key,
# where the plain implementation is exact.
ROUNDINGS = 4

NAMES = ("out", "grad_q", "grad_k", "grad_v")


class Case(NamedTuple):
    """One problem: q, k, v and grad_out are float64 tensors that hold values of `dtype`."""

    sizes: Sizes
    dtype: torch.dtype
    causal: bool
    q: torch.Tensor
    k: torch.Tensor
    v: torch.Tensor
    grad_out: torch.Tensor


# (q, k, v, grad_out, causal) of one dtype -> out, grad_q, grad_k, grad_v.
Runner = Callable[..., tuple[torch.Tensor, ...]]


def make_case(sizes: Sizes, dtype: torch.dtype, causal: bool) -> Case:
    """Draws a problem from the normal distribution, the same one at each call."""
    generator = torch.Generator().manual_seed(zlib.crc32(repr((sizes, causal)).encode()))
    q_shape = (sizes.batch, sizes.seq_q, sizes.num_heads, sizes.head_dim)
    kv_shape = (sizes.batch, sizes.seq_k, sizes.num_kv_heads, sizes.head_dim)
    arrays = (
        torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype).double()
        for shape in (q_shape, kv_shape, kv_shape, q_shape)
    )
    return Case(sizes, dtype, causal, *arrays)


def errors(case: Case, run: Runner) -> dict[str, float]:
    """Returns the largest absolute error of each result against the float64 reference.

    Asserts shapes and dtypes on the way. A NaN counts as an infinite error.
    """
    expected = expect(case)
    inputs = [x.to(case.dtype) for x in (case.q, case.k, case.v, case.grad_out)]
    results = run(*inputs, case.causal)
    found = {}
    for name, want, got in zip(NAMES, expected, results, strict=True):
        assert got.dtype == case.dtype, name
        assert tuple(got.shape) == want.shape, name
        difference = np.abs(got.detach().cpu().double().numpy() - want)
        found[name] = float(np.max(np.nan_to_num(difference, nan=np.inf), initial=0.0))
    return found


def expect(case: Case) -> tuple[reference.Array, ...]:
    """Returns out, grad_q, grad_k and grad_v by the specification."""
    q, k, v, grad_out = (x.numpy() for x in (case.q, case.k, case.v, case.grad_out))
    out, _ = reference.forward(q, k, v, causal=case.causal)
    return out, *reference.backward(q, k, v, grad_out, causal=case.causal)


def allowed(case: Case) -> dict[str, float]:
    """Returns the bar for each of the errors of a case."""
    plain_errors = errors(case, plain)
    sum_dtype = torch.float64 if case.dtype == torch.float64 else torch.float32
    rounding = torch.finfo(case.dtype).eps
    rounding += torch.finfo(sum_dtype).eps * _longest_sum(case.sizes) ** 0.5
    return {
        name: ERROR_FACTOR * plain_errors[name]
        + ROUNDINGS * rounding * max(1.0, float(np.max(np.abs(want), initial=0.0)))
        for name, want in zip(NAMES, expect(case), strict=True)
    }


def _longest_sum(sizes: Sizes) -> int:
    group = sizes.num_heads // sizes.num_kv_heads
    return max(sizes.head_dim, sizes.seq_k, sizes.seq_q * group)


def plain(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, grad_out: torch.Tensor, causal: bool
) -> tuple[torch.Tensor, ...]:
    """Attention by the textbook in the precision of the inputs, with torch's own gradients."""
    q, k, v = (x.clone().requires_grad_() for x in (q, k, v))
    group = q.shape[2] // k.shape[2]
    keys, values = (x.repeat_interleave(group, dim=2).transpose(1, 2) for x in (k, v))
    scores = q.transpose(1, 2) @ keys.transpose(2, 3) / q.shape[3] ** 0.5
    visible = torch.ones(scores.shape[2:], dtype=torch.bool, device=q.device)
    if causal:
        visible = visible.tril(k.shape[1] - q.shape[1])
    sees_any = visible.any(dim=1, keepdim=True)
    scores = scores.masked_fill(~visible & sees_any, -torch.inf)
    probabilities = torch.softmax(scores, dim=-1).masked_fill(~sees_any, 0.0)
    out = (probabilities @ values).transpose(1, 2)
    return out, *torch.autograd.grad(out, (q, k, v), grad_out)


def through_torch(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, grad_out: torch.Tensor, causal: bool
) -> tuple[torch.Tensor, ...]:
    """Runs torch_op."""
    q, k, v = (x.clone().requires_grad_() for x in (q, k, v))
    out = torch_op.attention(q, k, v, causal=causal)
    return out, *torch.autograd.grad(out, (q, k, v), grad_out)


def through_jax(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, grad_out: torch.Tensor, causal: bool
) -> tuple[torch.Tensor, ...]:
    """Runs jax_op under jit, on JAX's default device. float64 needs jax_enable_x64."""
    attention = jax.jit(lambda *args: jax_op.attention(*args, causal=causal))
    out, gradients = jax.vjp(attention, *map(_to_jax, (q, k, v)))
    return tuple(_to_torch(x).to(q.device) for x in (out, *gradients(_to_jax(grad_out))))


def _to_jax(x: torch.Tensor) -> jax.Array:
    # Through float32, which holds every bfloat16, because numpy has none of its own.
    wide = x.float() if x.dtype == torch.bfloat16 else x
    return jnp.asarray(wide.cpu().numpy(), dtype=str(x.dtype).removeprefix("torch."))


def _to_torch(x: jax.Array) -> torch.Tensor:
    wide = x.astype(jnp.float32) if x.dtype == jnp.bfloat16 else x
    return torch.from_numpy(np.array(wide)).to(getattr(torch, x.dtype.name))


class Table:
    """The largest errors seen of each backend and dtype, beside the plain implementation's."""

    def __init__(self) -> None:
        self._rows: dict[tuple[str, str], dict[str, float]] = {}

    def add(self, backend: str, dtype: torch.dtype, found: dict[str, float]) -> None:
        """Takes the errors of one case in."""
        row = self._rows.setdefault((backend, str(dtype).removeprefix("torch.")), {})
        for name, error in found.items():
            row[name] = max(error, row.get(name, 0.0))

    def __str__(self) -> str:
        header = f"{'backend':<28}{'dtype':<10}" + "".join(f"{name:>10}" for name in NAMES)
        lines = [
            f"{backend:<28}{dtype:<10}" + "".join(f"{row[name]:>10.1e}" for name in NAMES)
            for (backend, dtype), row in sorted(self._rows.items())
        ]
        title = "largest absolute error against float64"
        return "\n".join(["", title, header, *lines, ""])
