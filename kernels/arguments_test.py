"""Every argument of every operation: what is of its type is taken, and nothing else."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from torch._subclasses import FakeTensorMode

from kernels import arguments
from kernels.attention import jax_op as attention_jax
from kernels.attention import torch_op as attention_torch
from kernels.attention.rope import Rope, RopeTables
from kernels.linear_attention import jax_op as linear_jax
from kernels.linear_attention import torch_op as linear_torch
from kernels.linear_attention.contract import State
from kernels.quantize import jax_op as quantize_jax
from kernels.quantize import torch_op as quantize_torch
from kernels.quantize.contract import codec

# A value that an argument takes in another guise, and one that it refuses with these words.
Same = tuple[Any, Any]
Wrong = tuple[Any, str]

# By kind of argument: what is the same, and what is wrong.
SWITCH: tuple[list[Same], list[Wrong]] = (
    [(np.True_, True), (np.array(False), False)],
    [
        ("no", "must be True or False, got str 'no'"),
        (1, "must be True or False, got int 1"),
        (None, "must be True or False, got NoneType"),
    ],
)


def _number(like: float, or_none: str = "") -> tuple[list[Same], list[Wrong]]:
    text = f"must be a Python number{or_none}, got "
    return (
        [(np.float32(like), like), (np.float64(like), like), (np.array(like), like)],
        [
            (True, text + "bool True"),
            (np.True_, text + "bool"),
            (str(like), text + f"str '{like}'"),
            (1j, text + "complex"),
            ([like], text + "list"),
            (float("nan"), "must be finite, got nan"),
            (float("inf"), "must be finite, got inf"),
            (10**400, "must be finite"),
        ],
    )


def _integer(like: int, or_else: str = "") -> tuple[list[Same], list[Wrong]]:
    text = f"must be an int{or_else}, got "
    return (
        [(np.int64(like), like), (np.uint8(like), like), (np.array(like), like)],
        [
            (True, text + "bool True"),
            (np.True_, text + "bool"),
            (like + 0.9, text + "float"),
            (float(like), text + "float"),
            (str(like), text + f"str '{like}'"),
            ([like], text + "list"),
        ],
    )


def _fields(kind: Any, name: str, values: tuple[list[Same], list[Wrong]]) -> Any:
    """The same values as a field of a tuple, the others being as they are unless told."""
    same, wrong = values
    return (
        [(kind(**{name: x}), kind(**{name: y})) for x, y in same],
        [(kind(**{name: x}), text) for x, text in wrong],
    )


def _windows() -> tuple[list[Same], list[Wrong]]:
    same, wrong = _integer(2, " or None")
    pairs = [(None, "left"), (1, "left")]
    return (
        [((x, None), (y, None)) for x, y in same] + [((None, x), (None, y)) for x, y in same],
        [((x, right), f"window's {side} {text}") for x, text in wrong for right, side in pairs]
        + [
            ("ab", "window must be a pair"),
            ((1, 2, 3), "window must be a pair"),
            (3, "window must be a pair"),
        ],
    )


def _array(what: str) -> list[Wrong]:
    return [("ab", f"must be {what}.*, got str 'ab'"), ([1.0], f"must be {what}.*, got list")]


class _Side:
    """One framework: how it makes an array, and what it calls one."""

    def __init__(self, make: Callable[[Any], Any], name: str) -> None:
        self.make = make
        self.name = name


TORCH, JAX = _Side(torch.as_tensor, "a torch Tensor"), _Side(jnp.asarray, "an array")


def _attention_table(side: _Side) -> dict[str, tuple[list[Same], list[Wrong]]]:
    make = side.make
    ids = make(np.zeros((1, 3), np.int32))
    same_seeds, wrong_seeds = _integer(2, ".*")
    bools, floats = make(np.ones(2, bool)), make(np.ones(1, np.float32))
    return {
        "q": ([], _array(side.name)),
        "k": ([], _array(side.name)),
        "v": ([], _array(side.name)),
        "causal": SWITCH,
        "return_lse": SWITCH,
        "softmax_scale": _number(0.5, " or None"),
        "softcap": _number(0.5, " or None"),
        "dropout_rate": (_number(0.5)[0], [*_number(0.5)[1], (None, "got NoneType")]),
        "window": _windows(),
        "alibi_slopes": (
            [(make(np.ones(2, np.int32)), make(np.ones(2, np.float32)))],
            [*_array(side.name), (bools, "must be numbers, got .*bool"), (0.5, "got float")],
        ),
        "segment_ids": (
            [((ids, ids), ids)],
            [
                *_array(side.name),
                ((ids, "ab"), "got str"),
                (make(np.zeros((1, 3), bool)), "segment_ids must be integers, got bool"),
                (make(np.zeros((1, 3), np.float32)), "must be integers, got float32"),
            ],
        ),
        "dropout_seed": (
            [*same_seeds, (make(np.array([2])), 2), (make(np.array(2)), 2), (2 + 2**32, 2)],
            [
                *wrong_seeds,
                (1.9, "dropout_seed must be an int.*, got float 1.9"),
                (floats, "dropout_seed must be integers, got float32"),
                (make(np.ones(1, bool)), "dropout_seed must be integers, got bool"),
            ],
        ),
        "rope": (
            _fields(Rope, "base", _number(100.0))[0]
            + _fields(Rope, "offset", _integer(3))[0]
            + _fields(Rope, "rotary_dim", _integer(2))[0]
            + _fields(Rope, "interleaved", SWITCH)[0],
            _fields(Rope, "base", _number(100.0))[1]
            + _fields(Rope, "offset", _integer(3))[1]
            + _fields(Rope, "rotary_dim", _integer(2, " or None"))[1]
            + _fields(Rope, "interleaved", SWITCH)[1]
            + [
                (Rope(offset=1.5), "rope's offset must be an int, got float 1.5"),  # type: ignore[arg-type]
                (10000.0, "rope must be Rope, RopeTables or None, got float"),
                (RopeTables([1.0], [1.0]), "rope's cos must be an array, got list"),
                (RopeTables(make(np.ones((3, 2), bool)), None), "rope's cos must be numbers"),
            ],
        ),
    }


def _linear_table(side: _Side) -> dict[str, tuple[list[Same], list[Wrong]]]:
    make = side.make
    kv, k_sum = make(np.ones((1, 2, 4, 4))), make(np.ones((1, 2, 4)))
    return {
        "q": ([], _array(side.name)),
        "k": ([], _array(side.name)),
        "v": ([], _array(side.name)),
        "feature_map": (
            [("relu", "relu")],
            [(1, "feature_map must be a str, got int 1"), (None, "must be a str"), ("x", "one of")],
        ),
        "causal": SWITCH,
        "normalize": SWITCH,
        "return_state": SWITCH,
        "eps": (_number(0.5)[0], [*_number(0.5)[1], (None, "got None"), (-1.0, "0 or more")]),
        "scale": _number(0.5, " or None"),
        "decay": (
            [(make(np.ones(2, np.int32)), make(np.ones(2, np.float32)))],
            [*_array(side.name), (make(np.ones(2, bool)), "must be numbers, got .*bool")],
        ),
        "initial_state": (
            [],
            [
                ((kv, k_sum), "must be a State or None, got tuple"),
                (State("ab", k_sum), "the state's kv must be an array, got str 'ab'"),
                (State(kv, make(np.ones((1, 2, 4), bool))), "state's k_sum must be numbers"),
            ],
        ),
    }


def _quantize_table(side: _Side) -> dict[str, tuple[list[Same], list[Wrong]]]:
    same_seeds, wrong_seeds = _integer(2, ".*")
    return {
        "x": ([], _array(side.name)),
        "codec": ([], [("int8", "codec must be a Codec, got str 'int8'"), ((0, 0, 256), "Codec")]),
        "num_chunks": (_integer(2)[0], [*_integer(2)[1], (None, "got NoneType"), (0, "at least")]),
        "chunk_size": (_integer(64)[0], _integer(64, " or None")[1]),
        "residual": ([], _array(side.name)),
        "seed": (same_seeds, [*wrong_seeds, (side.make(np.ones(2, np.float32)), "seed must be")]),
        "offset": _integer(3),
    }


def _sum_table(side: _Side) -> dict[str, tuple[list[Same], list[Wrong]]]:
    return {
        "payloads": ([], _array(side.name)),
        "size": _integer(100),
        "codec": ([], [("int8", "codec must be a Codec, got str 'int8'")]),
        "multiplier": _number(0.5),
        "dtype": ([], [("no", "dtype must be a .*dtype, got str 'no'")]),
    }


def _payload_table(side: _Side) -> dict[str, tuple[list[Same], list[Wrong]]]:
    return {
        "payload": ([], [*_array(side.name), (side.make(np.ones(3, np.uint8)), "num_chunks")]),
        "size": _integer(100),
        "chunk_size": (_integer(100)[0], _integer(100, " or None")[1]),
        "dtype": ([], [("no", "dtype must be a .*dtype, got str 'no'")]),
    }


def _attention_call(module: Any, side: _Side) -> Callable[..., Any]:
    q = np.random.default_rng(0).standard_normal((3, 1, 3, 2, 4)).astype(np.float32)
    inputs = dict(zip("qkv", map(side.make, q), strict=True))

    def call(**options: Any) -> Any:
        if "dropout_seed" in options:
            options["dropout_rate"] = 0.5
        if "dropout_rate" in options:
            options.setdefault("dropout_seed", 1)
        return module.attention(**{**inputs, **options})

    return call


def _linear_call(module: Any, side: _Side) -> Callable[..., Any]:
    q = np.random.default_rng(0).standard_normal((3, 1, 3, 2, 4)).astype(np.float32)
    inputs = dict(zip("qkv", map(side.make, q), strict=True))

    def call(**options: Any) -> Any:
        if "scale" in options:
            options["normalize"] = False
        return module.linear_attention(**{**inputs, **options})

    return call


def _quantize_call(module: Any, side: _Side) -> Callable[..., Any]:
    values = side.make(np.random.default_rng(0).standard_normal(100).astype(np.float32))
    stochastic = codec(rounding="stochastic", block_size=64)

    def call(**options: Any) -> Any:
        chunks = {} if "num_chunks" in options or "chunk_size" not in options else {"num_chunks": 2}
        return module.quantize(**{"x": values, "codec": stochastic, **chunks, **options})

    return call


def _sum_call(module: Any, side: _Side) -> Callable[..., Any]:
    payloads = _quantize_call(module, side)(codec=codec())
    return lambda **options: module.reduce(**{"payloads": payloads, "size": 100, **options})


def _payload_call(module: Any, side: _Side) -> Callable[..., Any]:
    payload = _quantize_call(module, side)(codec=codec(), chunk_size=100, num_chunks=1)
    given = {"payload": payload, "size": 100, "chunk_size": 100}
    return lambda **options: module.dequantize(**{**given, **options})


CALLS = {
    "attention torch": (_attention_call(attention_torch, TORCH), _attention_table(TORCH)),
    "attention jax": (_attention_call(attention_jax, JAX), _attention_table(JAX)),
    "linear_attention torch": (_linear_call(linear_torch, TORCH), _linear_table(TORCH)),
    "linear_attention jax": (_linear_call(linear_jax, JAX), _linear_table(JAX)),
    "quantize torch": (_quantize_call(quantize_torch, TORCH), _quantize_table(TORCH)),
    "quantize jax": (_quantize_call(quantize_jax, JAX), _quantize_table(JAX)),
    "reduce torch": (_sum_call(quantize_torch, TORCH), _sum_table(TORCH)),
    "reduce jax": (_sum_call(quantize_jax, JAX), _sum_table(JAX)),
    "dequantize torch": (_payload_call(quantize_torch, TORCH), _payload_table(TORCH)),
    "dequantize jax": (_payload_call(quantize_jax, JAX), _payload_table(JAX)),
}
EVERY = [(name, argument) for name, (_, table) in CALLS.items() for argument in table]


def _leaves(result: Any) -> list[np.ndarray]:
    return list(map(np.asarray, jax.tree.leaves(result)))


@pytest.mark.parametrize(("operation", "argument"), EVERY)
def test_what_an_argument_is(operation: str, argument: str) -> None:
    call, table = CALLS[operation]
    same, wrong = table[argument]
    for given, plain in same:
        got, expected = _leaves(call(**{argument: given})), _leaves(call(**{argument: plain}))
        for x, y in zip(got, expected, strict=True):
            np.testing.assert_array_equal(x, y, err_msg=f"{argument}={given!r}")
    for given, text in wrong:
        with pytest.raises((TypeError, ValueError), match=text) as error:
            call(**{argument: given})
        assert argument.removeprefix("initial_") in str(error.value)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"format": 8}, "format must be a str, got int 8"),
        ({"rounding": None}, "rounding must be a str, got NoneType"),
        ({"block_size": 256.0}, "block_size must be an int, got float 256.0"),
        ({"block_size": "256"}, "block_size must be an int, got str '256'"),
    ],
)
def test_codecs(given: dict[str, Any], message: str) -> None:
    assert codec(block_size=np.int64(128)) == codec(block_size=128)
    with pytest.raises(TypeError, match=message):
        codec(**given)


def test_keys_of_jax_are_seeds() -> None:
    call = CALLS["attention jax"][0]
    key = jax.random.key(7)
    bits = jax.random.bits(key, dtype="uint32")
    np.testing.assert_array_equal(call(dropout_seed=key), call(dropout_seed=bits))
    np.testing.assert_array_equal(
        call(dropout_seed=jnp.stack([key])), jax.jit(lambda k: call(dropout_seed=k))(key)
    )
    # A key of the old kind is two integers, and not one seed for the one row.
    with pytest.raises(ValueError, match=r"got shape \(2,\)"):
        call(dropout_seed=jax.random.PRNGKey(7))
    np.testing.assert_array_equal(
        call(dropout_seed=jax.random.wrap_key_data(jax.random.PRNGKey(7))), call(dropout_seed=key)
    )
    quantize = CALLS["quantize jax"][0]
    np.testing.assert_array_equal(quantize(seed=key), quantize(seed=bits))


def test_long_values_are_cut_in_messages() -> None:
    with pytest.raises(TypeError) as error:
        arguments.integer("size", "x" * 10_000)
    assert len(str(error.value)) < 100


def _freed(x: torch.Tensor, left: int = 0) -> torch.Tensor:
    """The same tensor with so many bytes of memory left."""
    x.untyped_storage().resize_(left)
    return x


_X = torch.ones(1, 2, 2, 4)
_STATE = State(torch.ones(1, 2, 4, 4), torch.ones(1, 2, 4))
WITHOUT_MEMORY: dict[str, Callable[[], Any]] = {
    "q": lambda: attention_torch.attention(_freed(_X.clone()), _X, _X),
    "v": lambda: attention_torch.attention(_X, _X, _freed(torch.ones(1, 2, 4, 4)[:, :, ::2], 96)),
    "k": lambda: torch.vmap(lambda k: linear_torch.linear_attention(_X, k, _X))(
        _freed(_X[None].clone())
    ),
    "alibi_slopes": lambda: attention_torch.attention(
        _X, _X, _X, alibi_slopes=_freed(torch.ones(1, 2))
    ),
    "segment_ids": lambda: attention_torch.attention(
        _X, _X, _X, segment_ids=_freed(torch.ones(1, 2, dtype=torch.int32))
    ),
    "dropout_seed": lambda: attention_torch.attention(
        _X, _X, _X, dropout_rate=0.5, dropout_seed=_freed(torch.ones(1, dtype=torch.int64))
    ),
    "decay": lambda: linear_torch.linear_attention(_X, _X, _X, decay=_freed(torch.ones(1, 2))),
    "the state's k_sum": lambda: linear_torch.linear_attention(
        _X, _X, _X, initial_state=_STATE._replace(k_sum=_freed(_STATE.k_sum.clone()))
    ),
    "x": lambda: quantize_torch.quantize(_freed(torch.ones(96), 380)),
    "residual": lambda: quantize_torch.quantize(torch.ones(96), residual=_freed(torch.ones(96))),
    "payload": lambda: quantize_torch.dequantize(
        _freed(quantize_torch.quantize(torch.ones(96))), 96
    ),
}


@pytest.mark.parametrize("name", WITHOUT_MEMORY)
def test_memory_that_is_gone_is_named(name: str) -> None:
    with pytest.raises(ValueError, match=f"^{name} of shape .* freed or cut"):
        WITHOUT_MEMORY[name]()


@pytest.mark.parametrize("run", [attention_torch.attention, linear_torch.linear_attention])
def test_memory_that_is_gone_before_the_backward_pass_is_named(run: Callable[..., Any]) -> None:
    k = _X.clone().requires_grad_()
    out = run(_X, k, _X)
    _freed(k)
    with pytest.raises(ValueError, match="^k of shape"):
        out.sum().backward()


def test_no_memory_is_missed_where_there_is_none_to_be() -> None:
    """Views, tensors of no elements, and those that torch.func and torch.compile trace."""
    wide = torch.ones(1, 2, 2, 8)
    views = (wide[..., 4:], _X[:, :1].expand(1, 2, 2, 4), _X.transpose(1, 2))
    empty = torch.empty(0, 2, 2, 4)
    attention_torch.attention(empty, empty, empty)
    for run in (attention_torch.attention, linear_torch.linear_attention):
        torch.func.vmap(torch.func.grad(lambda q, run=run: run(q, *views[1:]).sum()))(
            views[0][None]
        )
        with FakeTensorMode() as mode:
            assert run(*map(mode.from_tensor, views)).shape == _X.shape
