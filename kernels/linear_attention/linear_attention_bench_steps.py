"""The steps that `linear_attention_bench` times, ours and its peers'."""

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import torch

from kernels.linear_attention import jax_op, torch_op
from kernels.linear_attention.contract import CHUNK, Sizes
from kernels.linear_attention.shapes import BENCHMARK_SIZES

Step = Callable[[], None]

BACKWARD_FORWARD_RATIO = 2.5

# The quadratic formula holds seq_len ** 2 weights a head, several times.
QUADRATIC_MAX_SEQ_LEN = 2048

PEERS = ("ours, torch", "ours, jax", "torch chunked", "xla chunked", "torch quadratic")


def print_table(args: argparse.Namespace) -> None:
    """Measures as the options say, and prints one table."""
    print(f"{args.dtype} on {args.device}, {'decay' if args.decay else 'no decay'}, ms")
    print(f"{'sizes':<12}{'pass':<10}{'GFLOP/s':>8}" + "".join(f"{n:>20}" for n in PEERS))
    for name in args.sizes:
        sizes = BENCHMARK_SIZES[name]
        steps = _torch_steps(sizes, args.dtype, args.device, args.decay)
        steps |= _jax_steps(sizes, args.dtype, args.device, args.decay)
        times = _measure(steps, args.repeat)
        for direction in ("forward", "both"):
            speed = _operations(sizes, direction) / times["ours, torch", direction][0] / 1e6
            row = (times.get((peer, direction)) for peer in PEERS)
            cells = (f"{'-':>20}" if x is None else f"{x[0]:>12.3f} ± {x[1]:<5.3f}" for x in row)
            print(f"{name:<12}{direction:<10}{speed:>8.0f}" + "".join(cells), flush=True)


def _operations(sizes: Sizes, direction: str) -> float:
    tokens = sizes.batch * sizes.num_heads * sizes.seq_len
    within = tokens * (sizes.key_dim + sizes.value_dim) * CHUNK
    forward = within + 4 * tokens * sizes.key_dim * sizes.value_dim
    return forward * (1.0 if direction == "forward" else 1.0 + BACKWARD_FORWARD_RATIO)


def _chunked(array: Any, q: Any, k: Any, v: Any, decay: Any, phi: Callable[[Any], Any]) -> Any:
    """The chunked form on torch tensors or JAX arrays; `array` is the module of either.

    q, k, v [batch, heads, seq_len, dim], seq_len a multiple of CHUNK; decay [heads].
    """
    q, k = (phi(x).reshape(*x.shape[:2], -1, CHUNK, x.shape[3]) for x in (q, k))
    v = v.reshape(*v.shape[:2], -1, CHUNK, v.shape[3])
    tokens = array.arange(CHUNK)
    distance = tokens[:, None] - tokens[None, :]
    visible = array.where(distance >= 0, 1.0, 0.0)
    powers = decay[:, None, None] ** array.where(distance >= 0, distance, 0) * visible
    age, rest = decay[:, None] ** (tokens + 1), decay[:, None] ** (CHUNK - 1 - tokens)
    powers, age, rest = (_like(x, q) for x in (powers, age, rest))
    weights = array.einsum("bhcid,bhcjd->bhcij", q, k) * powers[:, None]
    rested = k * rest[:, None, :, None]
    updates = array.einsum("bhcjd,bhcje->bhcde", rested, v)
    sums = rested.sum(-2)
    whole = _like(decay, q) ** CHUNK
    states, totals = [array.zeros_like(updates[:, :, 0])], [array.zeros_like(sums[:, :, 0])]
    for c in range(q.shape[2] - 1):
        states.append(whole[:, None, None] * states[-1] + updates[:, :, c])
        totals.append(whole[:, None] * totals[-1] + sums[:, :, c])
    aged = q * age[:, None, :, None]
    out = array.einsum("bhcij,bhcje->bhcie", weights, v)
    out = out + array.einsum("bhcid,bhcde->bhcie", aged, array.stack(states, 2))
    total = weights.sum(-1) + array.einsum("bhcid,bhcd->bhci", aged, array.stack(totals, 2))
    out = out / (total + 1e-6)[..., None]
    return out.reshape(*out.shape[:2], -1, out.shape[-1])


def _quadratic(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, decay: torch.Tensor
) -> torch.Tensor:
    q, k = (torch.nn.functional.elu(x) + 1 for x in (q, k))
    tokens = torch.arange(q.shape[2], device=q.device)
    distance = tokens[:, None] - tokens[None, :]
    weights = (q @ k.transpose(2, 3)).tril() * decay[:, None, None] ** distance.clamp(min=0)
    weights = weights.to(q.dtype)
    return weights @ v / (weights.sum(-1, keepdim=True) + 1e-6)


def _like(x: Any, other: Any) -> Any:
    return x.to(other) if isinstance(x, torch.Tensor) else x.astype(other.dtype)


def _torch_steps(
    sizes: Sizes, dtype: str, device: str, has_decay: bool
) -> dict[tuple[str, str], Step]:
    decay = torch.tensor(_decays(sizes, has_decay), device=device)
    group = sizes.num_heads // sizes.num_kv_heads

    def ours(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> Any:
        return torch_op.linear_attention(q, k, v, decay=decay if has_decay else None)

    def widen(k: torch.Tensor) -> torch.Tensor:
        return k.repeat_interleave(group, dim=1)

    def chunked(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        phi = lambda x: torch.nn.functional.elu(x) + 1  # noqa: E731
        out: torch.Tensor = _chunked(torch, q, widen(k), widen(v), decay, phi)
        return out

    def quadratic(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        return _quadratic(q, widen(k), widen(v), decay)

    tensors = [
        torch.randn(shape, dtype=getattr(torch, dtype), device=device) for shape in _shapes(sizes)
    ]
    transposed = [x.transpose(1, 2).contiguous() for x in tensors]
    wait = torch.cuda.synchronize if device == "cuda" else lambda: None
    peers = {"ours, torch": (ours, tensors)}
    if sizes.seq_len % CHUNK == 0:
        peers["torch chunked"] = (chunked, transposed)
    if sizes.seq_len <= QUADRATIC_MAX_SEQ_LEN:
        peers["torch quadratic"] = (quadratic, transposed)
    steps: dict[tuple[str, str], Step] = {}
    for name, (function, arrays) in peers.items():
        *inputs, grad_out = arrays
        leaves = [x.clone().requires_grad_() for x in inputs]

        def forward(function=function, inputs=inputs) -> None:  # type: ignore[no-untyped-def]
            function(*inputs)
            wait()

        def both(function=function, leaves=leaves, grad_out=grad_out) -> None:  # type: ignore[no-untyped-def]
            torch.autograd.grad(function(*leaves), leaves, grad_out)
            wait()

        steps |= {(name, "forward"): forward, (name, "both"): both}
    return steps


def _jax_steps(
    sizes: Sizes, dtype: str, device: str, has_decay: bool
) -> dict[tuple[str, str], Step]:
    decay = jnp.array(_decays(sizes, has_decay))
    group = sizes.num_heads // sizes.num_kv_heads

    def ours(q: jax.Array, k: jax.Array, v: jax.Array) -> Any:
        return jax_op.linear_attention(q, k, v, decay=decay if has_decay else None)

    def chunked(q: jax.Array, k: jax.Array, v: jax.Array) -> Any:
        k, v = (jnp.repeat(x, group, axis=2) for x in (k, v))
        q, k, v = (jnp.swapaxes(x, 1, 2) for x in (q, k, v))
        out = _chunked(jnp, q, k, v, decay, lambda x: jax.nn.elu(x) + 1)
        return jnp.swapaxes(out, 1, 2)

    keys = jax.random.split(jax.random.key(0), 4)
    arrays = [jax.random.normal(k, s, dtype) for k, s in zip(keys, _shapes(sizes), strict=True)]
    *inputs, grad_out = jax.device_put(arrays, jax.devices(device)[0])
    peers = {"ours, jax": ours}
    if sizes.seq_len % CHUNK == 0:
        peers["xla chunked"] = chunked
    steps: dict[tuple[str, str], Step] = {}
    for name, function in peers.items():
        run = jax.jit(function)
        gradients = jax.jit(lambda q, k, v, g, function=function: jax.vjp(function, q, k, v)[1](g))

        def forward(run=run) -> None:  # type: ignore[no-untyped-def]
            jax.block_until_ready(run(*inputs))

        def both(gradients=gradients) -> None:  # type: ignore[no-untyped-def]
            jax.block_until_ready(gradients(*inputs, grad_out))

        steps |= {(name, "forward"): forward, (name, "both"): both}
    return steps


def _decays(sizes: Sizes, has_decay: bool) -> list[float]:
    """RetNet's, from 1 - 2^-5 on, or ones."""
    return [1 - 2.0 ** (-5 - h) if has_decay else 1.0 for h in range(sizes.num_heads)]


def _shapes(sizes: Sizes) -> tuple[tuple[int, ...], ...]:
    q_shape = (sizes.batch, sizes.seq_len, sizes.num_heads, sizes.key_dim)
    k_shape = (sizes.batch, sizes.seq_len, sizes.num_kv_heads, sizes.key_dim)
    return q_shape, k_shape, (*k_shape[:3], sizes.value_dim), (*q_shape[:3], sizes.value_dim)


def _measure(
    steps: dict[tuple[str, str], Step], repeat: int
) -> dict[tuple[str, str], tuple[float, float]]:
    """Returns the median and half the distance between the quartiles, in ms."""
    samples: dict[tuple[str, str], list[float]] = {key: [] for key in steps}
    for step in steps.values():
        step()
    for _ in range(repeat):
        for key, step in steps.items():
            start = time.perf_counter()
            step()
            samples[key].append(1e3 * (time.perf_counter() - start))
    found = {}
    for key, times in samples.items():
        low, median, high = statistics.quantiles(times, n=4)
        found[key] = (median, (high - low) / 2)
    return found
