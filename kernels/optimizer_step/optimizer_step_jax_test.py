"""JAX's side reads and writes nothing but the arrays it is given: it refuses all others."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kernels.dispatch import ENVIRONMENT_VARIABLE, UnsupportedKernelError
from kernels.optimizer_step import contract, jax_op

_SIZE = 300
_PAYLOAD = contract.CODEC.payload_bytes(_SIZE)


def _f32(*shape: int) -> jax.Array:
    return jnp.ones(shape)


def _u8(size: int) -> jax.Array:
    return jnp.zeros(size, jnp.uint8)


def _step(**changes: Any) -> Any:
    """A step of AdamW over two tensors, the second's slots in bytes."""
    call: dict[str, Any] = {
        "params": [_f32(3, 2), _f32(_SIZE)],
        "grads": [_f32(3, 2), _f32(_SIZE)],
        "slots": [[jnp.zeros((3, 2))] * 2, [_u8(_PAYLOAD)] * 2],
        "step": jnp.int32(1),
        "rate": jnp.float32(0.1),
        "scalars": [jnp.float32(10.0), jnp.float32(1000.0)],
        "weight_decay": 0.0,
        "decays": [True, True],
        "decay_is_proximal": False,
        "hyperparameters": [0.9, 0.999, 1e-8],
    }
    return jax_op.step("adamw", **(call | changes))


_MISUSES: list[tuple[dict[str, Any], str]] = [
    (
        {"grads": [_f32(3, 2), _f32(1, _SIZE)]},
        r"tensor 1: expected a gradient of the weights' shape \[300\], got \[1, 300\]",
    ),
    (
        {"grads": [_f32(2, 3), _f32(_SIZE)]},
        r"tensor 0: expected a gradient of the weights' shape \[3, 2\], got \[2, 3\]",
    ),
    (
        {"slots": [[_f32(3, 2), _f32(6)], [_u8(_PAYLOAD)] * 2]},
        r"tensor 0: .* all float32 \[3, 2\] or all uint8 \[272\], got .*, float32 \[6\]",
    ),
    (
        {"slots": [[_f32(3, 2)] * 2, [_u8(_SIZE)] * 2]},
        r"tensor 1: .* or all uint8 \[528\], got uint8 \[300\], uint8 \[300\]",
    ),
    (
        {"slots": [[_f32(3, 2)] * 2, [_f32(_SIZE), _u8(_PAYLOAD)]]},
        r"tensor 1: .* got float32 \[300\], uint8 \[528\]",
    ),
    (
        {"slots": [[_f32(3, 2).astype(jnp.bfloat16)] * 2, [_u8(_PAYLOAD)] * 2]},
        r"tensor 0: .* got bfloat16 \[3, 2\]",
    ),
    ({"slots": [[_f32(3, 2)] * 2, [_u8(_PAYLOAD)]]}, "tensor 1: expected 2 slots"),
    ({"decays": [True]}, "decays of 2 tensors, got 2, 2 and 1"),
    ({"grads": [_f32(3, 2)]}, "decays of 2 tensors, got 1, 2 and 2"),
    ({"scalars": [jnp.float32(1.0)]}, r"adamw takes 2 scalars, .*'second_moment'\), got 1"),
    ({"hyperparameters": [0.9]}, r"adamw takes 3 hyperparameters, .*'epsilon'\), got 1"),
    ({"step": jnp.float32(1)}, r"a step of int32 \[\], got float32 \[\]"),
]


def test_well_formed_calls_are_served() -> None:
    params, slots = _step()
    # The first step of Adam is the learning rate.
    for param in params:
        np.testing.assert_allclose(param, 0.9, rtol=2e-2)
    assert [[x.dtype.name for x in kept] for kept in slots] == [["float32"] * 2, ["uint8"] * 2]


@pytest.mark.parametrize(("changes", "message"), _MISUSES)
@pytest.mark.parametrize("jit", [False, True])
def test_refuses_ill_formed_calls(changes: dict[str, Any], message: str, jit: bool) -> None:
    with pytest.raises(ValueError, match=message):
        (jax.jit(lambda: _step(**changes)) if jit else lambda: _step(**changes))()


@pytest.mark.parametrize(
    ("weights", "grads"),
    [("float16", "float32"), ("bfloat16", "float32"), ("bfloat16", "float16")],
)
def test_refuses_to_round_gradients(weights: str, grads: str) -> None:
    params = [jnp.ones(3, weights)]
    slots = [[_f32(3)] * 2]
    with pytest.raises(ValueError, match=f"tensor 0: .*{weights} .* gradient of {grads}.* cast it"):
        _step(params=params, grads=[jnp.full(3, 1e4, grads)], slots=slots, decays=[True])


@pytest.mark.parametrize("grads", ["float16", "bfloat16"])
def test_widens_gradients(grads: str) -> None:
    narrow = jnp.array([1.5, -0.25, 3e-5], grads)
    call = {"params": [_f32(3)], "slots": [[_f32(3)] * 2], "decays": [True]}
    wide = _step(**call, grads=[narrow.astype(jnp.float32)])
    jax.tree.map(np.testing.assert_array_equal, _step(**call, grads=[narrow]), wide)


@pytest.mark.parametrize("backend", ["reference", "triton", "cuda"])
def test_what_has_no_kernel(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert jax_op.have_kernels([_f32(3)])
    assert not jax_op.have_kernels([_f32(3), jnp.ones(3, jnp.int8)])
    # As with TRITON_INTERPRET=1.
    interpreted = {"triton": {"cpu": frozenset(contract.DTYPES)}}
    monkeypatch.setattr(contract, "SUPPORT", {**contract.SUPPORT, **interpreted})
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, backend)
    assert not jax_op.have_kernels([_f32(3)])
    with pytest.raises(UnsupportedKernelError, match="does not support float32 on cpu"):
        _step()


@pytest.mark.parametrize("size", [0, 1])
def test_of_few_weights_or_none(size: int) -> None:
    call = {"params": [_f32(size)], "grads": [_f32(size)], "slots": [[_f32(size)] * 2]}
    (param,), ((m, v),) = _step(**call, decays=[True])
    assert param.shape == m.shape == v.shape == (size,)


# The native code, called as jax_op does, but unchecked.

_BETAS = {"lion": [0.9, 0.99], "adamw": [0.9, 0.999, 1e-8]}

_ARRAYS = {
    "numbers": _f32(1),
    "step": jnp.int32(1),
    "param": _f32(_SIZE),
    "grad": _f32(_SIZE),
    "slot": jnp.zeros(_SIZE),
}


def _call_native(rule: str, *arrays: jax.Array) -> Any:
    """Of one tensor; the arrays are the numbers, the step, weights, gradient and slots."""
    updated = [arrays[2], *arrays[4:]]
    call = jax.ffi.ffi_call(
        "hpc_optimizer_step",
        [jax.ShapeDtypeStruct(x.shape, x.dtype) for x in updated],
        input_output_aliases={2: 0} | {3 + k: k for k in range(1, len(updated))},
    )
    results = call(
        *arrays,
        rule=np.int64(contract.RULE_NAMES.index(rule)),
        decay_is_proximal=np.int64(0),
        weight_decay=np.float64(0.0),
        hyperparameters=np.array(_BETAS[rule]),
        decays=np.array([1], np.int64),
    )
    return jax.block_until_ready(results)


@pytest.mark.parametrize("slot", [jnp.zeros(_SIZE), _u8(_PAYLOAD)])
def test_the_native_code_serves_well_formed_calls(slot: jax.Array) -> None:
    param, _ = _call_native("lion", *(_ARRAYS | {"slot": slot}).values())
    np.testing.assert_array_equal(param, np.zeros(_SIZE))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"grad": _f32(_SIZE - 1)}, "a gradient must be like its weights"),
        ({"grad": _f32(_SIZE).astype(jnp.float16)}, "a gradient must be like its weights"),
        ({"slot": _f32(_SIZE - 1)}, "slots must be all float32 like their weights, or all pay"),
        ({"slot": _f32(_SIZE).astype(jnp.float16)}, "slots must be all float32 like their w"),
        ({"slot": _u8(_PAYLOAD - 1)}, "slots must be all float32 like their weights, or all pay"),
        ({"numbers": _f32(0)}, "the rate and the scalars must be float32"),
        ({"numbers": jnp.ones(1, jnp.int32)}, "the rate and the scalars must be float32"),
        ({"numbers": _f32(2)}, "scalars must be as many as the rule takes, got 1"),
        ({"step": jnp.float32(1)}, "the step must be one int32"),
        ({"step": jnp.ones(2, jnp.int32)}, "the step must be one int32"),
        (
            {"param": jnp.ones(_SIZE, jnp.int32), "grad": jnp.ones(_SIZE, jnp.int32)},
            "takes float16, bfloat16 or float32",
        ),
    ],
)
def test_the_native_code_refuses_ill_formed_calls(
    change: dict[str, jax.Array], message: str
) -> None:
    with pytest.raises(jax.errors.JaxRuntimeError, match=message):
        _call_native("lion", *(_ARRAYS | change).values())


@pytest.mark.parametrize("slots", [(_f32(_SIZE), _u8(_PAYLOAD)), (_u8(_PAYLOAD), _f32(_SIZE))])
def test_the_native_code_refuses_slots_of_two_kinds(slots: tuple[jax.Array, ...]) -> None:
    with pytest.raises(jax.errors.JaxRuntimeError, match="slots must be all float32 like"):
        _call_native("adamw", _f32(3), jnp.int32(1), _f32(_SIZE), _f32(_SIZE), *slots)
