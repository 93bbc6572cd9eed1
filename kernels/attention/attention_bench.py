"""Times attention beside PyTorch's and JAX's own, in one process.

    bazel run //kernels/attention:attention_bench -- --dtype float32 --causal

Peers: torch.nn.functional.scaled_dot_product_attention on tensors already transposed to the layout
that it wants, and jax.nn.dot_product_attention under jit. The runs of all of them alternate, so
that a busy machine slows all alike; each cell is the median over the repetitions, with half the
distance between the quartiles. GFLOP/s are ours through torch, for 4 * B * H * Sq * Sk * D
operations of the forward pass and 2.5 times as many of the backward pass, half of both when causal.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import jax
import torch

from kernels.attention import jax_op, torch_op
from kernels.attention.contract import Sizes
from kernels.attention.shapes import BENCHMARK_SIZES

Step = Callable[[], None]

BACKWARD_FORWARD_RATIO = 2.5


def main() -> None:
    """Prints one table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16", "float16"])
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--causal", action="store_true")
    parser.add_argument("--repeat", type=int, default=15, help="timed runs of each step")
    args = parser.parse_args()
    print(f"{args.dtype} on {args.device}, {'causal' if args.causal else 'full'}, ms")
    print(f"{'sizes':<12}{'pass':<10}{'GFLOP/s':>8}" + "".join(f"{n:>20}" for n in _peers()))
    for name, sizes in BENCHMARK_SIZES.items():
        steps = _torch_steps(sizes, args.dtype, args.device, args.causal)
        steps |= _jax_steps(sizes, args.dtype, args.device, args.causal)
        times = _measure(steps, args.repeat)
        for direction in ("forward", "both"):
            row = {peer: times[peer, direction] for peer in _peers()}
            speed = _operations(sizes, args.causal, direction) / row["ours, torch"][0] / 1e6
            cells = "".join(f"{median:>12.3f} ± {spread:<5.3f}" for median, spread in row.values())
            print(f"{name:<12}{direction:<10}{speed:>8.0f}{cells}", flush=True)


def _peers() -> tuple[str, ...]:
    return ("ours, torch", "torch", "ours, jax", "jax")


def _operations(sizes: Sizes, causal: bool, direction: str) -> float:
    pairs = sizes.seq_q * sizes.seq_k * (0.5 if causal else 1.0)
    forward = 4 * sizes.batch * sizes.num_heads * sizes.head_dim * pairs
    return forward * (1.0 if direction == "forward" else 1.0 + BACKWARD_FORWARD_RATIO)


def _torch_steps(
    sizes: Sizes, dtype: str, device: str, causal: bool
) -> dict[tuple[str, str], Step]:
    def ours(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        return torch_op.attention(q, k, v, causal=causal)

    def peer(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.scaled_dot_product_attention(
            q, k, v, is_causal=causal, enable_gqa=k.shape[1] != q.shape[1]
        )

    tensors = [
        torch.randn(shape, dtype=getattr(torch, dtype), device=device) for shape in _shapes(sizes)
    ]
    transposed = [x.transpose(1, 2).contiguous() for x in tensors]
    wait = torch.cuda.synchronize if device == "cuda" else lambda: None
    steps: dict[tuple[str, str], Step] = {}
    for name, function, arrays in (("ours, torch", ours, tensors), ("torch", peer, transposed)):
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


def _jax_steps(sizes: Sizes, dtype: str, device: str, causal: bool) -> dict[tuple[str, str], Step]:
    def ours(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
        return jax_op.attention(q, k, v, causal=causal)

    def peer(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
        return jax.nn.dot_product_attention(q, k, v, is_causal=causal)

    keys = jax.random.split(jax.random.key(0), 4)
    arrays = [jax.random.normal(k, s, dtype) for k, s in zip(keys, _shapes(sizes), strict=True)]
    *inputs, grad_out = jax.device_put(arrays, jax.devices(device)[0])
    steps: dict[tuple[str, str], Step] = {}
    for name, function in (("ours, jax", ours), ("jax", peer)):
        run = jax.jit(function)
        gradients = jax.jit(lambda q, k, v, g, function=function: jax.vjp(function, q, k, v)[1](g))

        def forward(run=run) -> None:  # type: ignore[no-untyped-def]
            jax.block_until_ready(run(*inputs))

        def both(gradients=gradients) -> None:  # type: ignore[no-untyped-def]
            jax.block_until_ready(gradients(*inputs, grad_out))

        steps |= {(name, "forward"): forward, (name, "both"): both}
    return steps


def _shapes(sizes: Sizes) -> tuple[tuple[int, ...], ...]:
    q_shape = (sizes.batch, sizes.seq_q, sizes.num_heads, sizes.head_dim)
    kv_shape = (sizes.batch, sizes.seq_k, sizes.num_kv_heads, sizes.head_dim)
    return q_shape, kv_shape, kv_shape, q_shape


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


if __name__ == "__main__":
    main()
