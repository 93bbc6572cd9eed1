"""The oracle and the bar of linear attention's tests, for every backend; equality_jax.py runs JAX.

The rule is FlashAttention's: the error against float64 is at most twice that of a plain
implementation in the same precision, plus a few roundings.

Reference: flash-attention's tests/cute/test_flash_attn.py.
"""

import functools
import zlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from kernels.linear_attention import reference, torch_op
from kernels.linear_attention.contract import (
    Extras,
    Sizes,
    State,
    resolve_options,
    state_shapes,
)
from kernels.linear_attention.shapes import TEST_SIZES

# Allowed error as a multiple of the plain implementation's, which rounds in the same places but in
# another order.
ERROR_FACTOR = 2.0

# Allowed besides: this many roundings of the largest value in the dtype, and as many in the type of
# the sums, which grow with the square root of the longest sum. The recurrence adds up in another
# order than the plain form, which is exact where a token sees itself only.
ROUNDINGS = 4

RESULTS = ("out", "kv", "k_sum")
GRADIENTS = ("q", "k", "v", "decay", "initial_kv", "initial_k_sum")
NAMES = (*RESULTS, *(f"grad_{name}" for name in GRADIENTS))


class Features(NamedTuple):
    """What a call asks for, besides its arrays."""

    feature_map: str = "elu"
    causal: bool = True
    normalize: bool = True
    eps: float = 1e-6
    decay: bool = False
    state: bool = False

    def arguments(self) -> dict[str, Any]:
        """The keyword arguments of `linear_attention`, without arrays."""
        return {
            "feature_map": self.feature_map,
            "causal": self.causal,
            "normalize": self.normalize,
            "eps": self.eps,
            "return_state": self.state,
        }


# The quotient of relu features is wild where few are alike: eps tames it.
FEATURES = {
    "elu": Features(),
    "elu full": Features(causal=False),
    "relu decay": Features("relu", eps=1.0, decay=True),
    "retnet": Features("identity", normalize=False, decay=True),
    "identity full": Features("identity", causal=False, normalize=False),
    "state": Features(state=True),
    "state decay": Features(decay=True, state=True),
    "state plain": Features("relu", normalize=False, decay=True, state=True),
    "state full": Features(causal=False, state=True),
}

# Sizes that meet every form; every size meets the forms below.
FEATURE_SIZES = ("one token", "ragged chunks", "one chunk and a token", "odd dims", "grouped heads")
SIZE_FEATURES = ("elu", "elu full", "retnet", "state decay")

# (size, features), by name.
GRID = tuple(
    (size, features)
    for size in TEST_SIZES
    for features in FEATURES
    if size in FEATURE_SIZES or features in SIZE_FEATURES
)


class Case(NamedTuple):
    """One problem; float64 tensors that hold values of `dtype`, the extras those of float32."""

    sizes: Sizes
    features: Features
    dtype: torch.dtype
    inputs: tuple[torch.Tensor | None, ...]  # In the order of GRADIENTS.
    grads: tuple[torch.Tensor | None, ...]  # Of RESULTS.


# What `expect` returns may be handed on: it takes most of the time.
Expected = list[reference.Array | None]

# (inputs, grads, features) -> results and gradients as in NAMES, None where there is none.
Runner = Callable[..., Sequence[torch.Tensor | None]]


def sum_dtype(dtype: torch.dtype) -> torch.dtype:
    """The type of the sums."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def make_case(sizes: Sizes, features: Features, dtype: torch.dtype) -> Case:
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
    # A state's k_sum is a sum of features, and those are positive where it counts.
    state = (kv, k_sum.abs()) if features.state else (None, None)
    extras = (decay.double() if features.decay else None, *state)
    grads = (grad_out, *((grad_kv, grad_k_sum) if features.state else (None, None)))
    return Case(sizes, features, dtype, (q, k, v, *extras), grads)


def errors(case: Case, run: Runner, expected: Expected | None = None) -> dict[str, float]:
    """Returns the largest absolute error of each result against the float64 reference.

    Asserts shapes and dtypes on the way. A NaN counts as an infinite error.
    """
    sums = sum_dtype(case.dtype)
    dtypes = (case.dtype,) * 3 + (sums,) * 3
    inputs = [None if x is None else x.to(d) for x, d in zip(case.inputs, dtypes, strict=True)]
    grad_dtypes = (case.dtype, sums, sums)
    grads = [None if x is None else x.to(d) for x, d in zip(case.grads, grad_dtypes, strict=True)]
    result_dtypes = (*grad_dtypes, *dtypes)
    expected = expected or expect(case)
    results = zip(NAMES, expected, run(inputs, grads, case.features), strict=True)
    found = {}
    for (name, want, got), dtype in zip(results, result_dtypes, strict=True):
        if want is None:
            assert got is None, name
            continue
        assert got is not None and got.dtype == dtype, name
        assert tuple(got.shape) == want.shape, name
        difference = np.abs(got.detach().cpu().double().numpy() - want)
        found[name] = float(np.max(np.nan_to_num(difference, nan=np.inf), initial=0.0))
    return found


def expect(case: Case) -> Expected:
    """Returns the results and gradients by the specification."""
    features, sizes = case.features, case.sizes
    arrays: list[Any] = [None if x is None else x.numpy() for x in case.inputs]
    q, k, v, *extras = arrays
    cotangents: list[Any] = [None if x is None else x.numpy() for x in case.grads]
    grad_out, *grad_state = cotangents
    options = resolve_options(
        sizes,
        causal=features.causal,
        feature_map=features.feature_map,
        normalize=features.normalize,
        eps=features.eps,
        scale=None,
        has_decay=features.decay,
    )
    out, state = reference.forward(q, k, v, options, Extras(*extras))
    grad_final = State(*grad_state) if features.state else None
    gradients = reference.backward(q, k, v, grad_out, options, Extras(*extras), grad_final)
    results = (out, *(state if features.state else (None, None)))
    asked = zip(gradients, case.inputs, strict=True)
    return [*results, *(None if x is None else g for g, x in asked)]


def allowed(
    case: Case, expected: Expected | None = None, plain_errors: dict[str, float] | None = None
) -> dict[str, float]:
    """Returns the bar for each of the errors of a case."""
    expected = expected or expect(case)
    plain_errors = plain_errors or errors(case, plain, expected)
    longest = max(case.sizes.seq_len * case.sizes.num_heads, case.sizes.key_dim)
    rounding = torch.finfo(sum_dtype(case.dtype)).eps * longest**0.5
    rounding += torch.finfo(case.dtype).eps
    bars = {}
    for name, want in zip(NAMES, expected, strict=True):
        if want is None:
            continue
        largest = max(1.0, float(np.max(np.abs(want), initial=0.0)))
        if name == "grad_decay":
            # A sum over all tokens, which cancel; and but a few numbers, of which the plain
            # implementation may get each right by chance.
            largest *= max(case.sizes.seq_len, 1) ** 0.5
        bars[name] = ERROR_FACTOR * plain_errors[name] + ROUNDINGS * rounding * largest
    return bars


def plain(
    inputs: Sequence[torch.Tensor | None], grads: Sequence[torch.Tensor | None], features: Features
) -> list[torch.Tensor | None]:
    """The quadratic formula in the precision of the inputs, with torch's own gradients."""
    return _differentiate(functools.partial(_quadratic, features=features), inputs, grads)


def _quadratic(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    decay: torch.Tensor | None,
    kv: torch.Tensor | None,
    k_sum: torch.Tensor | None,
    features: Features,
) -> tuple[torch.Tensor, ...]:
    dtype, seq_len, group = q.dtype, q.shape[1], q.shape[2] // k.shape[2]
    phi = {"elu": lambda x: torch.nn.functional.elu(x) + 1, "relu": torch.relu}.get(
        features.feature_map, lambda x: x
    )
    q, k = phi(q).transpose(1, 2), phi(k).repeat_interleave(group, dim=2).transpose(1, 2)
    v = v.repeat_interleave(group, dim=2).transpose(1, 2)
    heads = q.shape[:2]
    decay = torch.ones(heads, dtype=sum_dtype(dtype)) if decay is None else decay
    decay = decay.to(q.device)[..., None]
    tokens = torch.arange(seq_len, device=q.device)
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
    if kv is not None and k_sum is not None:
        out = out + age * (q @ kv.to(dtype))
        total = total + ((age * q) @ k_sum.to(dtype)[..., None])[..., 0]
    scale = q.shape[-1] ** -0.5
    out = out / (total + features.eps)[..., None] if features.normalize else out * scale
    out = out.transpose(1, 2)
    if kv is None or k_sum is None:
        return (out,)
    old = decay**length
    final = old[..., None] * kv + ((rest * k).transpose(2, 3) @ v).to(kv.dtype)
    return out, final, old * k_sum + (rest * k).sum(2).to(kv.dtype)


def _differentiate(
    function: Callable[..., tuple[torch.Tensor, ...]],
    inputs: Sequence[torch.Tensor | None],
    grads: Sequence[torch.Tensor | None],
) -> list[torch.Tensor | None]:
    leaves = [None if x is None else x.clone().requires_grad_() for x in inputs]
    results = function(*leaves)
    given = [x for x in leaves if x is not None]
    cotangents = [g for g in grads if g is not None]
    found = iter(torch.autograd.grad(results, given, cotangents))
    padded = [*results, *(None,) * (len(RESULTS) - len(results))]
    return [*padded, *(None if x is None else next(found) for x in leaves)]


def through_torch(
    inputs: Sequence[torch.Tensor | None], grads: Sequence[torch.Tensor | None], features: Features
) -> list[torch.Tensor | None]:
    """Runs torch_op."""

    def run(q, k, v, decay, kv, k_sum):  # type: ignore[no-untyped-def]
        initial = State(kv, k_sum) if features.state else None
        results = torch_op.linear_attention(
            q, k, v, decay=decay, initial_state=initial, **features.arguments()
        )
        return (results[0], *results[1]) if features.state else (results,)

    return _differentiate(run, inputs, grads)


class Table:
    """The largest errors seen of each backend and dtype, beside the plain implementation's."""

    def __init__(self) -> None:
        self._rows: dict[tuple[str, str], dict[str, float]] = {}
        self._worst = 0.0
        self._cases = 0

    def add(self, backend: str, dtype: torch.dtype, found: dict[str, float]) -> None:
        """Takes the errors of one case in."""
        row = self._rows.setdefault((backend, str(dtype).removeprefix("torch.")), {})
        for name, error in found.items():
            row[name] = max(error, row.get(name, 0.0))

    def compare(self, found: dict[str, float], bars: dict[str, float]) -> None:
        """Takes the errors of one case in, as fractions of what is allowed."""
        self._cases += 1
        self._worst = max([self._worst, *(found[name] / bars[name] for name in found)])

    def __str__(self) -> str:
        header = f"{'backend':<28}{'dtype':<10}" + "".join(f"{name[:10]:>11}" for name in NAMES)
        lines = [
            f"{backend:<28}{dtype:<10}" + "".join(f"{row.get(name, 0.0):>11.1e}" for name in NAMES)
            for (backend, dtype), row in sorted(self._rows.items())
        ]
        title = (
            f"largest absolute error against float64; {self._cases} cases, the worst at "
            f"{self._worst:.2f} of what is allowed"
        )
        return "\n".join(["", title, header, *lines, ""])
