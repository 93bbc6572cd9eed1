"""Quantization as JAX operations: jit, vmap, shard_map, what may be traced, and errors."""

import itertools
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from kernels.dispatch import UnsupportedKernelError
from kernels.quantize import cases, contract, jax_op
from kernels.quantize.cases_jax import through_jax
from kernels.quantize.contract import DEFAULT_CODEC, Codec
from kernels.quantize.shapes import TEST_SHAPES
from kernels.testing.arrays import assert_same_bits

jax.config.update("jax_num_cpu_devices", 4)

STOCHASTIC = contract.codec("float8_e4m3fn", block_size=64, rounding="stochastic")


def _x(*shape: int, seed: int = 0, dtype: Any = jnp.float32) -> jax.Array:
    return jax.random.normal(jax.random.key(seed), shape, dtype)


def _same(got: Any, want: Any) -> None:
    jax.tree.map(np.testing.assert_array_equal, got, want)


CODECS = tuple(itertools.product(contract.FORMAT_NAMES, contract.ROUNDINGS))
DTYPES = ("float32", "bfloat16", "float16")


# The code is that of quantize_test.py; what JAX hands over is every shape, codec and dtype.
@pytest.mark.parametrize("number", range(len(TEST_SHAPES)), ids=TEST_SHAPES)
def test_matches_the_specification(number: int) -> None:
    shape = list(TEST_SHAPES.values())[number]
    format, rounding = CODECS[number % 6]
    codec = contract.codec(format, block_size=shape.block_size, rounding=rounding)
    residual = number // 3 % 2 == 0
    case = cases.make_case(shape, codec, DTYPES[number // 2 % 3], residual=residual)
    assert_same_bits(through_jax(case), cases.expected(case))


def test_jit_is_the_same_function() -> None:
    def run(x: jax.Array, residual: jax.Array, seed: Any, offset: Any) -> Any:
        return jax_op.quantize(
            x, STOCHASTIC, num_chunks=3, residual=residual, seed=seed, offset=offset
        )

    x, residual = _x(20, 50), _x(1000, seed=1)
    eager = run(x, residual, 5, 1000)
    _same(jax.jit(run)(x, residual, 5, 1000), eager)
    _same(jax.jit(run)(x, residual, jnp.uint32(5), jnp.int32(1000)), eager)
    other = run(x, residual, 6, 1000)
    assert not jnp.array_equal(other[0], eager[0])


def test_only_the_low_half_of_a_seed_counts_and_all_of_an_offset() -> None:
    x = _x(1000)
    payload = jax_op.quantize(x, STOCHASTIC, seed=3, offset=2**33 + 1)
    _same(jax_op.quantize(x, STOCHASTIC, seed=2**32 + 3, offset=2**33 + 1), payload)
    assert not jnp.array_equal(jax_op.quantize(x, STOCHASTIC, seed=3, offset=1), payload)
    with jax.enable_x64(True):
        traced = jax.jit(lambda x, o: jax_op.quantize(x, STOCHASTIC, seed=3, offset=o))
        _same(traced(x, jnp.int64(2**33 + 1)), payload)


def test_an_array_keeps_its_residual() -> None:
    # The residual may be updated in place: not where someone still holds it.
    x, residual = _x(1000), _x(1000, seed=1)
    before = np.asarray(residual).copy()
    step = jax.jit(lambda x, r: jax_op.quantize(x, residual=r))
    payload, new = step(x, residual)
    np.testing.assert_array_equal(residual, before)
    sent = jax_op.dequantize(payload, 1000)
    np.testing.assert_array_equal(np.float64(sent) + np.float64(new), np.float64(x + residual))


def test_a_donated_residual_is_updated_in_place() -> None:
    step = jax.jit(lambda x, r: jax_op.quantize(x, residual=r), donate_argnums=1)
    residual = _x(100_000, seed=1)
    address = residual.unsafe_buffer_pointer()
    want = jax_op.quantize(_x(100_000), residual=_x(100_000, seed=1))
    payload, new = step(_x(100_000), residual)
    assert new.unsafe_buffer_pointer() == address
    _same((payload, new), want)


def test_subnormal_numbers_count_whatever_the_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    # XLA's threads flush them to zero, those that call Python too.
    codec = contract.codec("float8_e5m2")
    x = np.random.default_rng(0).standard_normal(256).astype(np.float32) * np.float32(2.0**-125)

    def round_trip(x: jax.Array) -> tuple[jax.Array, jax.Array]:
        payload = jax_op.quantize(x, codec)
        return payload, jax_op.dequantize(payload, 256, codec)

    want = jax.jit(round_trip)(x)
    magnitudes = np.abs(np.asarray(want[1]))
    assert ((magnitudes > 0) & (magnitudes < 2.0**-126)).any()
    monkeypatch.setenv("HPC_KERNEL_BACKEND", "reference")
    _same(jax.jit(lambda x: round_trip(x))(x), want)


@pytest.mark.parametrize("in_axes", [(0, 0, 0), (0, None, None), (None, 0, 0), (1, None, 0)])
def test_vmap_is_a_loop(in_axes: tuple[int | None, ...]) -> None:
    shapes = ((300,), (300,), ())
    arrays = [
        jnp.stack([_x(*s, seed=i) for i in range(3)], axis) if axis is not None else _x(*s)
        for s, axis in zip(shapes, in_axes, strict=True)
    ]
    arrays[2] = (1000 * arrays[2]).astype(jnp.int32)

    def run(x: jax.Array, residual: jax.Array, seed: jax.Array) -> Any:
        payload, rest = jax_op.quantize(x, STOCHASTIC, residual=residual, seed=seed, num_chunks=2)
        return payload, rest, jax_op.dequantize(payload, 300, STOCHASTIC, dtype=jnp.bfloat16)

    got = jax.vmap(run, in_axes)(*arrays)
    for i in range(3):
        each = (
            x if axis is None else jnp.take(x, i, axis)
            for x, axis in zip(arrays, in_axes, strict=True)
        )
        _same(tuple(x[i] for x in got), run(*each))


@pytest.mark.parametrize("backend", ["", "reference"])
def test_all_reduce_inside_shard_map(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # What the collectives are made of; offset and seed depend on the device.
    monkeypatch.setenv("HPC_KERNEL_BACKEND", backend)
    world, size = 4, 1000
    chunk = STOCHASTIC.chunk_size(size, world)
    mesh = jax.make_mesh((world,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))

    @jax.jit
    @partial(jax.shard_map, mesh=mesh, in_specs=(P("data"), P("data")), out_specs=P("data"))
    def all_reduce(x: jax.Array, residual: jax.Array) -> Any:
        rank = jax.lax.axis_index("data")
        payload, rest = jax_op.quantize(
            x[0], STOCHASTIC, num_chunks=world, residual=residual[0], seed=rank
        )
        payloads = jax.lax.all_to_all(payload, "data", 0, 0, tiled=True)
        own = jax_op.reduce_quantize(
            payloads, chunk, STOCHASTIC, multiplier=1 / world, seed=9, offset=rank * chunk
        )
        everyone = jax.lax.all_gather(own, "data", axis=0, tiled=True)
        out = jax_op.dequantize(everyone, size, STOCHASTIC, chunk_size=chunk)
        return out[None], rest[None]

    x, residual = _x(world, size), jnp.zeros((world, size))
    out, rest = all_reduce(x, residual)
    for other in out[1:]:
        np.testing.assert_array_equal(out[0], other)
    for rank in range(world):
        _, want = jax_op.quantize(
            x[rank], STOCHASTIC, num_chunks=world, residual=residual[rank], seed=rank
        )
        np.testing.assert_array_equal(rest[rank], want)
    # Two roundings to 4 significant bits, of values up to about 4.
    np.testing.assert_allclose(out[0], x.mean(0), atol=0.5)


def test_codes_and_scales() -> None:
    x = _x(1000)
    payload = jax_op.quantize(x, STOCHASTIC, num_chunks=3)
    codes = jax_op.codes(payload, 1000, STOCHASTIC)
    scales = jax_op.scales(payload, 1000, STOCHASTIC)
    assert codes.shape == (3, 6, 64) and codes.dtype == jnp.float8_e4m3fn
    back = (codes.astype(jnp.float32) * scales[..., None]).reshape(-1)[:1000]
    _same(back, jax_op.dequantize(payload, 1000, STOCHASTIC))


def test_gradients_end_here() -> None:
    def loss(x: jax.Array) -> jax.Array:
        return jnp.sum(x * jax_op.dequantize(jax_op.quantize(x), x.size))

    x = _x(300)
    _same(jax.grad(loss)(x), jax_op.dequantize(jax_op.quantize(x), 300))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"num_chunks": 0}, ValueError, "num_chunks must be at least 1, got 0"),
        ({"chunk_size": 40}, ValueError, "1 chunks of chunk_size 40 cannot hold 100"),
        ({"offset": -1}, ValueError, "offset must be from 0"),
        ({"offset": jnp.float32(1)}, TypeError, "offset must be an integer, got float32"),
        ({"seed": jnp.ones(2, jnp.int32)}, TypeError, r"seed must be .* of shape \(2,\)"),
        ({"residual": jnp.zeros(99)}, ValueError, "residual must have 100 values"),
        ({"residual": jnp.zeros(100, jnp.int32)}, TypeError, "residual must be float32, got int32"),
    ],
)
def test_bad_arguments_are_named(
    arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        jax.jit(lambda x: jax_op.quantize(x, **arguments))(_x(100))


def test_bad_codecs_are_named() -> None:
    for name, made in (("block_size", Codec(0, 0, 0)), ("rounding", Codec(0, 7, 256))):
        with pytest.raises(ValueError, match=f"{name} of a Codec must be one of"):
            jax_op.quantize(_x(5), made)


def test_bad_payloads_are_named() -> None:
    payload = jax_op.quantize(_x(1000), num_chunks=2)
    with pytest.raises(ValueError, match=r"must be \(2, 784\), got shape \(2, 528\)"):
        jax_op.dequantize(payload, 1100)
    with pytest.raises(TypeError, match="payload must be uint8, got int8"):
        jax_op.reduce(payload.astype(jnp.int8), 512)
    with pytest.raises(TypeError, match="multiplier must be a Python number"):
        jax.jit(lambda p, m: jax_op.reduce(p, 512, multiplier=m))(payload, 0.5)
    with pytest.raises(UnsupportedKernelError, match="does not support int32 on cpu"):
        jax_op.dequantize(payload, 1000, DEFAULT_CODEC, dtype=jnp.int32)
    with pytest.raises(UnsupportedKernelError, match="does not support int32 on cpu"):
        jax_op.quantize(jnp.arange(5))


def test_triton_is_not_replaced_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HPC_KERNEL_BACKEND", "triton")
    with pytest.raises(UnsupportedKernelError, match="on cpu with HPC_KERNEL_BACKEND=triton"):
        jax_op.quantize(_x(5))
    monkeypatch.setitem(contract.SUPPORT["triton"], "cpu", frozenset({"float32"}))
    with pytest.raises(UnsupportedKernelError, match="serves JAX on cuda only"):
        jax_op.quantize(_x(5))
