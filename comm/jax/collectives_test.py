"""Compressed collectives do what numpy does by the kernels' specification, bit for bit."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import PartitionSpec as P

from comm import compression as python
from comm.compression import Compression
from comm.jax.collectives import (
    Feedback,
    compressed_psum,
    compressed_psum_scatter,
    init_feedback,
)
from comm.jax.seeds import quantization_seed
from comm.testing import simulation
from comm.testing.virtual_devices import bytes_sent, make_mesh
from kernels.quantize.contract import codec

NUM_STEPS = 3

_BY_DEVICE = P("data")

# Several pieces, the last of them and its last chunk not whole.
SIZE = 5_003
BUCKET_BYTES = 8_192


def _compression(
    format_name: str = "int8", rounding: str = "nearest", block_size: int = 64
) -> Compression:
    chosen = codec(format_name, rounding=rounding, block_size=block_size)
    return Compression(chosen, bucket_bytes=BUCKET_BYTES, seed=7)


def _values(world_size: int, size: int = SIZE, step: int = 0) -> np.ndarray:
    """[world_size, size] float32 of magnitudes from 1e-6 to 1."""
    rng = np.random.default_rng([world_size, size, step])
    return (rng.normal(size=(world_size, size)) * 10 ** rng.uniform(-6, 0, size)).astype("f4")


def _on_each(
    function: Callable[..., Any], world_size: int, out_specs: Any = _BY_DEVICE, **options: Any
) -> Callable[..., Any]:
    """Maps a function over the rows of its first arguments; the last is the step."""

    def run(x: Any, *args: Any) -> Any:
        *rows, step = args
        x, rows = jax.tree.map(lambda a: a[0], (x, rows))
        return function(x, *rows, step=step)

    def mapped(*args: Any) -> Any:
        in_specs = (P("data"),) * (len(args) - 1) + (P(),)
        mesh = make_mesh(data=world_size)
        return jax.shard_map(run, mesh=mesh, in_specs=in_specs, out_specs=out_specs, **options)(
            *args
        )

    return jax.jit(mapped)


def _whole(owned: jax.Array, compression: Compression) -> np.ndarray:
    """The owned residuals of all devices in the order of the vector."""
    parts, begin = [], 0
    for start, stop in python.pieces(compression, SIZE):
        end = begin + compression.codec.chunk_size(stop - start, len(owned))
        parts.append(np.asarray(owned)[:, begin:end].ravel()[: stop - start])
        begin = end
    return np.concatenate(parts)


def _no_feedback(compression: Compression, world_size: int) -> Feedback:
    """Of all devices."""
    of_one = init_feedback(compression, SIZE, world_size)
    return jax.tree.map(lambda r: np.zeros((world_size, *r.shape), "f4"), of_one)


def _rows(tree: Any) -> Any:
    return jax.tree.map(lambda a: a[None], tree)


@pytest.mark.parametrize("seed", [0, 1, 2**31, 2**63 - 1])
@pytest.mark.parametrize("step", [0, 1, 2**31 - 1])
def test_seeds_are_those_of_python(seed: int, step: int) -> None:
    compression = Compression(seed=seed)
    for hop, rank in ((0, 0), (0, 5), (1, 0)):
        expected = python.quantization_seed(compression, step, hop, rank)
        traced = jax.jit(
            lambda step, rank, hop=hop: quantization_seed(compression, step, hop, rank)
        )
        assert int(quantization_seed(compression, step, hop, rank)) == expected
        assert int(traced(jnp.int32(step), jnp.int32(rank))) == expected


# Every two of them meet.
@pytest.mark.parametrize(
    ("format_name", "rounding", "world_size"),
    [
        ("int8", "nearest", 2),
        ("int8", "stochastic", 4),
        ("int8", "nearest", 8),
        ("float8_e4m3fn", "stochastic", 2),
        ("float8_e4m3fn", "nearest", 4),
        ("float8_e4m3fn", "stochastic", 8),
        ("float8_e5m2", "nearest", 2),
        ("float8_e5m2", "stochastic", 4),
        ("float8_e5m2", "stochastic", 8),
    ],
)
def test_psum_with_feedback_is_the_specification(
    format_name: str, rounding: str, world_size: int
) -> None:
    compression = _compression(format_name, rounding)

    def reduce(x: jax.Array, feedback: Feedback, step: jax.Array) -> Any:
        mean, feedback = compressed_psum(
            x, "data", compression, average=True, feedback=feedback, step=step
        )
        return mean, _rows(feedback)

    run = _on_each(reduce, world_size, out_specs=(P(), P("data")))
    feedback = _no_feedback(compression, world_size)
    local, owned = list(np.zeros((world_size, SIZE), "f4")), [np.zeros(SIZE, "f4")]
    for step in range(NUM_STEPS):
        x = _values(world_size, step=step)
        mean, feedback = run(x, feedback, step)
        expected = simulation.all_reduce(x, compression, local=local, owned=owned, step=step)
        np.testing.assert_array_equal(mean, expected)
        np.testing.assert_array_equal(feedback.local, local)
        np.testing.assert_array_equal(_whole(feedback.owned, compression), owned[0])


@pytest.mark.parametrize(
    ("dtype", "rounding", "average"),
    [
        ("float32", "nearest", True),
        ("float32", "stochastic", False),
        ("bfloat16", "nearest", False),
        ("bfloat16", "stochastic", True),
        ("float16", "nearest", True),
        ("float16", "stochastic", False),
    ],
)
def test_psum_without_feedback_is_the_specification(
    dtype: str, rounding: str, average: bool
) -> None:
    compression = _compression(rounding=rounding, block_size=256)
    x = jnp.asarray(_values(4)).astype(dtype)

    def reduce(x: jax.Array, step: jax.Array) -> jax.Array:
        return compressed_psum(x, "data", compression, average=average, step=step)

    total = _on_each(reduce, 4, out_specs=P())(x, 5)
    expected = simulation.all_reduce(np.asarray(x, "f4"), compression, average=average, step=5)
    assert total.dtype == dtype
    np.testing.assert_array_equal(total, jnp.asarray(expected).astype(dtype))


@pytest.mark.parametrize("size", [1, 63, 64, 65, 2_048, 2_049])
def test_any_size_is_summed(size: int) -> None:
    compression = _compression()

    def reduce(x: jax.Array, step: jax.Array) -> jax.Array:
        return compressed_psum(x, "data", compression, step=step)

    x = _values(4, size)
    expected = simulation.all_reduce(x, compression, average=False)
    np.testing.assert_array_equal(_on_each(reduce, 4, out_specs=P())(x, 0), expected)


@pytest.mark.parametrize("check_vma", [True, False])
def test_every_device_gets_the_same_bits(check_vma: bool) -> None:
    compression = _compression("float8_e5m2", "stochastic")

    def reduce(x: jax.Array, step: jax.Array) -> jax.Array:
        return compressed_psum(x, "data", compression, step=step)[None]

    totals = _on_each(reduce, 8, check_vma=check_vma)(_values(8), 0)
    for total in totals[1:]:
        assert total.tobytes() == totals[0].tobytes()


def test_two_axes_are_one_of_their_product() -> None:
    compression = _compression(rounding="stochastic")
    x = _values(8)

    def reduce(x: jax.Array) -> jax.Array:
        return compressed_psum(x[0], ("data", "fsdp"), compression)

    in_specs = P(("data", "fsdp"))
    mapped = jax.shard_map(reduce, mesh=make_mesh(data=2, fsdp=4), in_specs=in_specs, out_specs=P())
    expected = simulation.all_reduce(x, compression, average=False)
    np.testing.assert_array_equal(jax.jit(mapped)(x), expected)


def test_one_of_two_axes_sums_apart() -> None:
    compression = _compression()
    x = _values(8).reshape(2, 4, SIZE)

    def reduce(x: jax.Array) -> jax.Array:
        return compressed_psum(x[0, 0], "fsdp", compression)[None]

    mapped = jax.shard_map(
        reduce, mesh=make_mesh(data=2, fsdp=4), in_specs=P("data", "fsdp"), out_specs=P("data")
    )
    totals = jax.jit(mapped)(x)
    for rows, total in zip(x, totals, strict=True):
        expected = simulation.all_reduce(rows, compression, average=False)
        np.testing.assert_array_equal(total, expected)


def test_an_array_keeps_its_shape() -> None:
    compression = _compression()

    def reduce(x: jax.Array, step: jax.Array) -> jax.Array:
        return compressed_psum(x, "data", compression, step=step)

    x = _values(2, 1_200)
    total = _on_each(reduce, 2, out_specs=P())(x.reshape(2, 30, 4, 10), 0)
    expected = simulation.all_reduce(x, compression, average=False)
    np.testing.assert_array_equal(total, expected.reshape(30, 4, 10))


def test_error_is_a_step_of_each_quantization() -> None:
    compression, world_size = _compression(block_size=64), 4

    def reduce(x: jax.Array, step: jax.Array) -> jax.Array:
        return compressed_psum(x, "data", compression, step=step)

    x = np.random.default_rng(0).normal(size=(world_size, 4_096)).astype("f4")
    total = np.asarray(_on_each(reduce, world_size, out_specs=P())(x, 0))
    exact = x.sum(0, dtype=np.float64)

    def half_steps(values: np.ndarray) -> np.ndarray:
        return np.abs(values).reshape(*values.shape[:-1], -1, 64).max(-1) / 254

    error = np.abs(total - exact).reshape(-1, 64).max(-1)
    first = half_steps(x).sum(0)
    # What is quantized anew is larger than the exact sum by the first error at most.
    assert np.all(error <= (first + half_steps(exact) + first / 254) * (1 + 1e-5))
    assert np.max(error) > 0.2 * np.max(first)  # so the bound is about what happens


def test_feedback_makes_up_for_what_was_lost() -> None:
    compression, world_size, num_steps = _compression(), 4, 20
    x = _values(world_size)

    def reduce(x: jax.Array, feedback: Feedback, step: jax.Array) -> Any:
        mean, feedback = compressed_psum(
            x, "data", compression, average=True, feedback=feedback, step=step
        )
        return mean, _rows(feedback)

    run = _on_each(reduce, world_size, out_specs=(P(), P("data")))
    feedback = _no_feedback(compression, world_size)
    means = []
    for step in range(num_steps):
        mean, feedback = run(x, feedback, step)
        means.append(np.asarray(mean, np.float64))
    exact = x.mean(0, dtype=np.float64)
    once = np.abs(means[0] - exact).max()
    assert np.abs(np.mean(means, axis=0) - exact).max() < 2.5 * once / num_steps
    # All that was given has been sent or is still held.
    held = np.asarray(feedback.local).mean(0) + _whole(feedback.owned, compression)
    np.testing.assert_allclose(
        np.sum(means, axis=0) + held, num_steps * exact, rtol=0, atol=1e-6 * num_steps
    )


def test_not_finite_is_seen_and_then_forgotten() -> None:
    compression, world_size = _compression(), 4

    def reduce(x: jax.Array, feedback: Feedback, step: jax.Array) -> Any:
        total, feedback = compressed_psum(x, "data", compression, feedback=feedback, step=step)
        return total[None], _rows(feedback)

    run = _on_each(reduce, world_size)
    expected = np.zeros(SIZE, bool)
    expected[64:128] = True
    for bad in (np.nan, np.inf, -np.inf):
        x = _values(world_size)
        x[2, 100] = bad
        totals, feedback = run(x, _no_feedback(compression, world_size), 0)
        for total in totals:
            np.testing.assert_array_equal(np.isnan(total), expected)
        totals, feedback = run(_values(world_size), feedback, 1)
        assert np.isfinite(totals).all()
        assert all(np.isfinite(residual).all() for residual in feedback)


@pytest.mark.parametrize(
    ("share_size", "rounding", "world_size"),
    [
        (64 * 3, "nearest", 2),
        (64 * 3, "stochastic", 4),
        (1_000, "stochastic", 2),
        (1_000, "nearest", 4),
        (64 * 3, "nearest", 8),
        (1_000, "stochastic", 8),
    ],
)
def test_psum_scatter_is_the_specification(world_size: int, rounding: str, share_size: int) -> None:
    compression = _compression(rounding=rounding)
    size = world_size * share_size

    def reduce(x: jax.Array, residual: jax.Array, step: jax.Array) -> Any:
        share, residual = compressed_psum_scatter(
            x, "data", compression, average=True, residual=residual, step=step
        )
        return share, residual[None]

    run = _on_each(reduce, world_size)
    residual = np.zeros((world_size, size), "f4")
    local = list(residual.copy())
    for step in range(NUM_STEPS):
        x = _values(world_size, size, step)
        shares, residual = run(x, residual, step)
        expected = simulation.reduce_scatter(x, compression, local=local, step=step)
        np.testing.assert_array_equal(shares, expected)
        np.testing.assert_array_equal(residual, local)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_psum_scatter_is_like_that_of_lax(dtype: str) -> None:
    compression = _compression()
    x = jnp.asarray(_values(4, 24_000)).astype(dtype).reshape(4, 40, 20, 30)

    def compressed(x: jax.Array, step: jax.Array) -> jax.Array:
        return compressed_psum_scatter(x, "data", compression, step=step)

    def exact(x: jax.Array, step: jax.Array) -> jax.Array:
        return lax.psum_scatter(x.astype(jnp.float32), "data", tiled=True)

    shares, expected = (_on_each(f, 4)(x, 0) for f in (compressed, exact))
    assert (shares.shape, shares.dtype) == (expected.shape, dtype)
    # Of four magnitudes of about 3: int8's half steps, and float16's and bfloat16's rounding.
    np.testing.assert_allclose(shares.astype("f4"), expected, rtol=0, atol=4 * 4 / 254 + 0.03)


def test_one_device_sends_and_loses_nothing() -> None:
    compression = _compression()

    def reduce(x: jax.Array, feedback: Feedback, step: jax.Array) -> Any:
        total, feedback = compressed_psum(x, "data", compression, feedback=feedback, step=step)
        share = compressed_psum_scatter(x, "data", compression, step=step)
        return total, share, _rows(feedback)

    feedback = _rows(init_feedback(compression, SIZE, 1))
    run = _on_each(reduce, 1, out_specs=(P(), P("data"), P("data")))
    x = _values(1)
    total, share, feedback = run(x, feedback, 0)
    np.testing.assert_array_equal(total, x[0])
    np.testing.assert_array_equal(share, x[0])
    assert not any(np.any(residual) for residual in feedback)


def test_nothing_is_summed_to_nothing() -> None:
    def reduce(x: jax.Array, step: jax.Array) -> jax.Array:
        return compressed_psum(x, "data", step=step)

    assert _on_each(reduce, 2, out_specs=P())(np.zeros((2, 0), "f4"), 0).shape == (0,)


def test_what_is_sent_is_a_quarter() -> None:
    compression, world_size, size = Compression(), 4, 2**20

    def plain(x: jax.Array, step: jax.Array) -> jax.Array:
        return lax.psum(x, "data")

    def compressed(x: jax.Array, step: jax.Array) -> jax.Array:
        return compressed_psum(x, "data", compression, step=step)

    x = np.zeros((world_size, size), "f4")
    sent, of_float32 = (
        bytes_sent(_on_each(f, world_size, out_specs=P()), world_size, x, 0)
        for f in (compressed, plain)
    )
    assert of_float32 == 2 * 3 / 4 * 4 * size
    assert sent / of_float32 == pytest.approx((1 + 4 / 256) / 4)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"local": np.zeros((2, SIZE - 1), "f4")}, ValueError, "feedback.local must be"),
        ({"owned": np.zeros((2, SIZE), "f4")}, ValueError, "feedback.owned must be"),
        ({"local": np.zeros((2, SIZE), "f2")}, TypeError, "must be float32"),
    ],
)
def test_wrong_feedback_is_refused(
    change: dict[str, np.ndarray], error: type[Exception], message: str
) -> None:
    compression = _compression()

    def reduce(x: jax.Array, feedback: Feedback, step: jax.Array) -> Any:
        return compressed_psum(x, "data", compression, feedback=feedback, step=step)

    feedback = _no_feedback(compression, 2)._replace(**change)
    with pytest.raises(error, match=message):
        _on_each(reduce, 2)(_values(2), feedback, 0)


def test_what_cannot_be_done_is_refused() -> None:
    nodes = Compression(ranks_per_node=2)
    cases = [
        (lambda x, step: compressed_psum(x, "data", nodes), ValueError, "ranks_per_node"),
        (lambda x, step: compressed_psum_scatter(x, "data"), ValueError, "multiple of the 2"),
        (lambda x, step: compressed_psum(x.astype(jnp.int32), "data"), ValueError, "int32"),
    ]
    for function, error, message in cases:
        with pytest.raises(error, match=message):
            _on_each(function, 2)(_values(2), 0)
