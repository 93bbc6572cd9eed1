"""Attention through JAX, under jit: ours and its peers, each as steps that can be timed."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.attention.cases import WINDOW_LEFT, Case, Inputs, make_segments, query_positions
from benchmarks.attention.sides import JAX_NN, OURS_JAX, XLA, Side, pinned_to
from benchmarks.harness.timing import Step
from kernels.attention import jax_op
from kernels.attention.rope import Rope, rope_tables

# What the backward pass of a formula holds at its peak: scores, probabilities, their gradients.
_FORMULA_ARRAYS = 5

# Arrays besides q, k and v, by name: arguments of the compiled program, not constants in it.
_Extras = dict[str, jax.Array]
_Attention = Callable[[jax.Array, jax.Array, jax.Array, _Extras], jax.Array]
_Prepare = Callable[[Case, Inputs], tuple[_Attention, _Extras]]


def jax_sides(device: str, backends: tuple[str, ...]) -> dict[str, Side]:
    """Returns the sides that a device has; the arguments are those of `torch_sides`."""

    def side(prepare: _Prepare, score_arrays: int = 0) -> Side:
        step = functools.partial(_step, device, prepare)
        return Side(step, OURS_JAX, score_arrays=score_arrays)

    sides = {OURS_JAX: side(_ours)}
    for name in backends:
        sides[f"ours ({name}), jax"] = pinned_to(name, sides[OURS_JAX], compiled=True)
    sides[JAX_NN] = side(functools.partial(_jax_nn, "xla"), _FORMULA_ARRAYS)
    if device == "cuda":
        sides[f"{JAX_NN} cudnn"] = side(functools.partial(_jax_nn, "cudnn"))
    sides[XLA] = side(_formula, _FORMULA_ARRAYS)
    return sides


def matmul_step(device: str, dtype: str, size: int) -> Step:
    """A square matrix product by XLA."""
    keys = jax.random.split(jax.random.key(0), 2)
    place = jax.devices(device)[0]
    a, b = (jax.device_put(jax.random.normal(key, (size, size), dtype), place) for key in keys)
    product = jax.jit(jnp.matmul).lower(a, b).compile()
    return Step(functools.partial(product, a, b), jax.block_until_ready)


def planned_bytes(step: Step) -> int:
    """What a compiled step allocates for one run, results included, by the compiler's account."""
    assert isinstance(step.run, functools.partial)
    compiled: Any = step.run.func
    plan = compiled.memory_analysis()
    return int(plan.temp_size_in_bytes + plan.output_size_in_bytes)


def _step(device: str, prepare: _Prepare, case: Case, inputs: Inputs, direction: str) -> Step:
    place = jax.devices(device)[0]
    with jax.default_device(place):
        attention, extras = prepare(case, inputs)
        q, k, v, grad_out = (
            jax.device_put(jnp.asarray(x, case.dtype), place)
            for x in (inputs.q, inputs.k, inputs.v, inputs.grad_out)
        )

        def with_pullback(q: jax.Array, k: jax.Array, v: jax.Array, extras: _Extras) -> Any:
            return jax.vjp(lambda q, k, v: attention(q, k, v, extras), q, k, v)

        def both(grad_out: jax.Array, *args: Any) -> Any:
            return with_pullback(*args)[1](grad_out)

        function: Callable[..., Any]
        args: tuple[Any, ...]
        if direction == "forward":
            function, args = attention, (q, k, v, extras)
        elif direction == "both":
            function, args = both, (grad_out, q, k, v, extras)
        else:
            _, pullback = jax.jit(with_pullback)(q, k, v, extras)
            function, args = (lambda pullback, grad_out: pullback(grad_out)), (pullback, grad_out)
        compiled = jax.jit(function).lower(*args).compile()
    return Step(functools.partial(compiled, *args), jax.block_until_ready, _arrays)


def _arrays(result: Any) -> list[np.ndarray]:
    return [np.asarray(x, dtype=np.float32) for x in jax.tree.leaves(result)]


def _ours(case: Case, inputs: Inputs) -> tuple[_Attention, _Extras]:
    options: dict[str, Any] = {"causal": case.causal}
    extras: _Extras = {}
    if case.feature == "alibi":
        extras["alibi_slopes"] = jnp.asarray(inputs.alibi_slopes)
    elif case.feature == "window":
        options["window"] = (WINDOW_LEFT, 0)
    elif case.feature == "segments":
        extras["segment_ids"] = jnp.asarray(inputs.segment_ids)
    elif case.feature == "rope":
        options["rope"] = Rope()

    def attention(q: jax.Array, k: jax.Array, v: jax.Array, extras: _Extras) -> jax.Array:
        out: jax.Array = jax_op.attention(q, k, v, **options, **extras)
        return out

    return attention, extras


def _jax_nn(implementation: str, case: Case, inputs: Inputs) -> tuple[_Attention, _Extras]:
    options: dict[str, Any] = {"is_causal": case.causal, "implementation": implementation}
    extras: _Extras = {}
    if case.feature == "alibi":
        extras["bias"] = _alibi_bias(case, jnp.asarray(inputs.alibi_slopes)).astype(case.dtype)
    elif case.feature == "window":
        options["local_window_size"] = (WINDOW_LEFT, 0)
    elif case.feature == "segments":
        segments = make_segments(case.sizes.seq_k)
        extras["mask"] = jnp.asarray(segments[:, None] == segments)[None, None]
    rotate = _rotation(case) if case.feature == "rope" else _identity

    def attention(q: jax.Array, k: jax.Array, v: jax.Array, extras: _Extras) -> jax.Array:
        return jax.nn.dot_product_attention(rotate(q), rotate(k), v, **options, **extras)

    return attention, extras


def _formula(case: Case, inputs: Inputs) -> tuple[_Attention, _Extras]:
    """Attention as one writes it down: the scores are an array, softmax is in float32."""
    sizes = case.sizes
    rotate = _rotation(case) if case.feature == "rope" else _identity
    group = sizes.num_heads // sizes.num_kv_heads
    segments = make_segments(sizes.seq_k)

    def attention(q: jax.Array, k: jax.Array, v: jax.Array, extras: _Extras) -> jax.Array:
        k, v = (jnp.repeat(x, group, axis=2) for x in (k, v))
        scores = jnp.einsum("bihd,bjhd->bhij", rotate(q), rotate(k)) * sizes.head_dim**-0.5
        scores = scores.astype(jnp.float32)
        distance = _distance(case)
        if case.feature == "alibi":
            scores = scores + _alibi_bias(case, extras["slopes"])
        if case.causal:
            scores = jnp.where(distance >= 0, scores, -jnp.inf)
        if case.feature == "window":
            scores = jnp.where(distance <= WINDOW_LEFT, scores, -jnp.inf)
        if case.feature == "segments":
            scores = jnp.where(segments[:, None] == segments, scores, -jnp.inf)
        probabilities = jax.nn.softmax(scores, axis=-1).astype(q.dtype)
        return jnp.einsum("bhij,bjhd->bihd", probabilities, v)

    return attention, {"slopes": jnp.asarray(inputs.alibi_slopes)}


def _distance(case: Case) -> jax.Array:
    """How far each key is behind each query, [Sq, Sk]."""
    return jnp.asarray(query_positions(case))[:, None] - jnp.arange(case.sizes.seq_k)


def _alibi_bias(case: Case, slopes: jax.Array) -> jax.Array:
    """[1, H, Sq, Sk]."""
    return -slopes[None, :, None, None] * jnp.abs(_distance(case))


def _rotation(case: Case) -> Callable[[jax.Array], jax.Array]:
    """RoPE in the half layout, for sequences of one length."""
    tables = rope_tables(case.sizes.seq_k, case.sizes.head_dim)
    cos, sin = (jnp.asarray(table, case.dtype)[:, None] for table in tables)

    def rotate(x: jax.Array) -> jax.Array:
        left, right = jnp.split(x, 2, axis=-1)
        return jnp.concatenate((left * cos - right * sin, right * cos + left * sin), axis=-1)

    return rotate


def _identity(x: jax.Array) -> jax.Array:
    return x
