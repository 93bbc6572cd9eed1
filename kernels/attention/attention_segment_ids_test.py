"""Segment ids of every integer type and size group as they say, in both frameworks."""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from kernels.attention import jax_op, torch_op

# Groups of queries and keys; negative: padding.
GROUPS = np.array([[1, 1, 1, 2, 2, 2], [3, 0, -1, 3, 0, 5]])
KEY_GROUPS = np.array([[2, 1, -1, 1, 9, 9, 2], [0, 0, 3, 5, -1, -1, 3]])

# Larger than int32, in each way that cutting could hide.
LARGE = {
    "multiples of 2 ** 31": np.array([1, 2, 3, 4, 5, 6, 7, 8, 9, 10]) * 2**31,
    "multiples of 2 ** 32": np.array([1, 2, 3, 4, 5, 6, 7, 8, 9, 10]) * 2**32,
    "beside small ones": np.array([0, 2**32, 1, 2**33, 2**32 + 1, 5, 2**62, 6, 7, 2**63 - 1]),
}


def _relabel(groups: np.ndarray, labels: np.ndarray, padding: int = -1) -> np.ndarray:
    """`labels[g]` for group g, in int64."""
    return np.where(groups < 0, padding, labels[groups])


def _qkv() -> list[np.ndarray]:
    generator = np.random.default_rng(0)
    shapes = (GROUPS.shape[1], KEY_GROUPS.shape[1], KEY_GROUPS.shape[1])
    return [generator.standard_normal((2, s, 2, 8)).astype(np.float32) for s in shapes]


def _expected() -> np.ndarray:
    """By the textbook, in float64."""
    q, k, v = (x.astype(np.float64) for x in _qkv())
    seen = (GROUPS[:, :, None] == KEY_GROUPS[:, None]) & (GROUPS[:, :, None] >= 0)
    scores = np.einsum("bihd,bjhd->bhij", q, k) / 8**0.5
    weights = np.where(seen[:, None], np.exp(scores), 0.0)
    weights /= np.maximum(weights.sum(axis=-1, keepdims=True), 1e-30)
    return np.einsum("bhij,bjhd->bihd", weights, v)


def _check(out: np.ndarray | torch.Tensor | jax.Array) -> None:
    # Float32 results of size 1.
    np.testing.assert_allclose(np.asarray(out), _expected(), rtol=0, atol=1e-5)


def _in_torch(q_ids: torch.Tensor, kv_ids: torch.Tensor) -> torch.Tensor:
    q, k, v = map(torch.from_numpy, _qkv())
    return torch_op.attention(q, k, v, segment_ids=(q_ids, kv_ids))


@jax.jit
def _traced(q_ids: jax.Array, kv_ids: jax.Array) -> jax.Array:
    return jax_op.attention(*_qkv(), segment_ids=(q_ids, kv_ids))


@pytest.fixture(params=[True, False], ids=["x64", "no x64"])
def x64(request: pytest.FixtureRequest) -> Iterator[bool]:
    with jax.enable_x64(request.param):
        yield request.param


def test_ids_beyond_32_bits_as_reported() -> None:
    small = torch.tensor([[1, 1, 1, 2, 2, 2]])
    q, k, v = torch.randn(3, 1, 6, 2, 8, generator=torch.Generator().manual_seed(0))
    got = torch_op.attention(q, k, v, segment_ids=small * 2**31)
    assert torch.equal(got, torch_op.attention(q, k, v, segment_ids=small))
    assert got.abs().min() > 0


@pytest.mark.parametrize("labels", LARGE.values(), ids=LARGE.keys())
@pytest.mark.parametrize("padding", [-1, -(2**31), -(2**31) - 1, -(2**32) + 1, -(2**63)])
def test_large_ids_in_torch(labels: np.ndarray, padding: int) -> None:
    ids = (torch.from_numpy(_relabel(x, labels, padding)) for x in (GROUPS, KEY_GROUPS))
    _check(_in_torch(*ids))


@pytest.mark.parametrize("labels", LARGE.values(), ids=LARGE.keys())
@pytest.mark.parametrize("padding", [-1, -(2**32) + 1])
def test_large_ids_in_jax(labels: np.ndarray, padding: int) -> None:
    ids = [_relabel(x, labels, padding) for x in (GROUPS, KEY_GROUPS)]
    with jax.enable_x64(True):
        _check(_traced(*map(jnp.asarray, ids)))
        _check(jax_op.attention(*_qkv(), segment_ids=tuple(map(jnp.asarray, ids))))


@pytest.mark.parametrize("labels", LARGE.values(), ids=LARGE.keys())
def test_large_ids_of_numpy_in_jax(labels: np.ndarray, x64: bool) -> None:
    ids = tuple(_relabel(x, labels, -(2**40)) for x in (GROUPS, KEY_GROUPS))
    _check(jax_op.attention(*_qkv(), segment_ids=ids))


def test_large_ids_of_numpy_beside_others_without_x64_are_an_error() -> None:
    large = _relabel(GROUPS, LARGE["multiples of 2 ** 32"])
    with jax.enable_x64(False):
        q, k, v = _qkv()
        with pytest.raises(ValueError, match="need jax_enable_x64, or numpy arrays for both"):
            jax_op.attention(q, k, v, segment_ids=(large, jnp.asarray(KEY_GROUPS)))
        _check(jax_op.attention(q, k, v, segment_ids=(GROUPS, jnp.asarray(KEY_GROUPS))))


def test_padding_of_numpy_beside_others_is_padding(x64: bool) -> None:
    # Cut to 32 bits the last would be 2.
    padding = np.array([[2, 2, -(2**32) + 2]])
    q, k, v = (jnp.ones((1, 3, 1, 8)) * jnp.arange(3.0)[:, None, None] for _ in range(3))
    ids = jnp.asarray([[2, 2, 2]])
    got = jax_op.attention(q, k, v, segment_ids=(ids, padding))
    np.testing.assert_array_equal(got, jax_op.attention(q, k[:, :2], v[:, :2]))


UNSIGNED = [np.uint8, np.uint16, np.uint32, np.uint64]


@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.int32, np.int64, *UNSIGNED])
def test_every_integer_type(dtype: type[np.integer], x64: bool) -> None:
    # From the largest down: of unsigned types that is no padding. What has no equal sees nothing.
    labels = np.array(np.iinfo(dtype).max, dtype) - np.arange(10, dtype=dtype)
    q_ids, kv_ids = (
        np.where(x < 0, labels[lonely] if np.iinfo(dtype).min == 0 else dtype(-1), labels[x])
        for x, lonely in ((GROUPS, 7), (KEY_GROUPS, 8))
    )
    _check(_in_torch(torch.from_numpy(q_ids), torch.from_numpy(kv_ids)))
    _check(jax_op.attention(*_qkv(), segment_ids=(q_ids, kv_ids)))
    if x64 or q_ids.itemsize < 8:
        _check(_traced(jnp.asarray(q_ids), jnp.asarray(kv_ids)))


def test_types_of_queries_and_keys_may_differ(x64: bool) -> None:
    # The bits of -1 and of the largest unsigned number are the same.
    kv_ids = np.where(KEY_GROUPS < 0, 2**64 - 1, KEY_GROUPS.astype(np.uint64))
    _check(_in_torch(torch.from_numpy(GROUPS), torch.from_numpy(kv_ids)))
    _check(jax_op.attention(*_qkv(), segment_ids=(GROUPS, kv_ids)))


def test_large_ids_under_vmap_and_compile() -> None:
    ids = [_relabel(x, LARGE["beside small ones"]) for x in (GROUPS, KEY_GROUPS)]
    with jax.enable_x64(True):
        one = [x[:, None] for x in (*_qkv(), *map(jnp.asarray, ids))]
        mapped = jax.vmap(lambda q, k, v, a, b: jax_op.attention(q, k, v, segment_ids=(a, b)))
        _check(jax.jit(mapped)(*one)[:, 0])
    compiled = torch.compile(torch_op.attention, fullgraph=True, backend="aot_eager")
    _check(compiled(*map(torch.from_numpy, _qkv()), segment_ids=tuple(map(torch.from_numpy, ids))))


def test_gradients_with_large_ids() -> None:
    small = [torch.from_numpy(x) for x in (GROUPS, KEY_GROUPS)]
    large = [torch.from_numpy(_relabel(x, LARGE["multiples of 2 ** 32"])) for x in small]
    grads = []
    for ids in (small, large):
        leaves = [torch.from_numpy(x).requires_grad_() for x in _qkv()]
        torch_op.attention(*leaves, segment_ids=tuple(ids)).square().sum().backward()
        grads.append([x.grad for x in leaves])
    for a, b in zip(*grads, strict=True):
        assert torch.equal(a, b)


def test_what_is_no_array_of_integers_is_refused() -> None:
    q, k, v = _qkv()
    tensors = [torch.from_numpy(x) for x in (q, k, v)]
    for bad, message in (
        (GROUPS.astype(bool), "segment_ids must be integers, got bool"),
        (GROUPS.astype(np.float32), "segment_ids must be integers, got float32"),
    ):
        with pytest.raises(TypeError, match=message):
            jax_op.attention(q, q, q, segment_ids=bad)
        with pytest.raises(TypeError, match=message):
            torch_op.attention(tensors[0], tensors[0], tensors[0], segment_ids=torch.tensor(bad))
    for attention, x, bad, message in (
        (jax_op.attention, q, GROUPS.tolist(), "an array, .* or None, got list"),
        (torch_op.attention, tensors[0], GROUPS.tolist(), "a torch Tensor, .* or None, got list"),
        (torch_op.attention, tensors[0], GROUPS, "a torch Tensor, .* or None, got ndarray"),
    ):
        with pytest.raises(TypeError, match=f"segment_ids must be {message}"):
            attention(x, x, x, segment_ids=bad)  # type: ignore[operator]


# The low 32 bits of a seed count, whatever holds it.
SEEDS = [5, 5 + 2**32, 5 - 2**32, 5 + 2**70]


def test_seeds_of_any_size_are_taken_modulo_32_bits(x64: bool) -> None:
    arrays = _qkv()
    tensors = [torch.from_numpy(x) for x in arrays]
    dropped = [
        torch_op.attention(*tensors, dropout_rate=0.4, dropout_seed=seed).numpy() for seed in SEEDS
    ] + [
        np.asarray(jax_op.attention(*arrays, dropout_rate=0.4, dropout_seed=seed)) for seed in SEEDS
    ]
    for out in dropped[1:]:
        np.testing.assert_array_equal(out, dropped[0])
    other = torch_op.attention(*tensors, dropout_rate=0.4, dropout_seed=6)
    assert not np.array_equal(other.numpy(), dropped[0])
