"""Inside and around optax's own combinators a rule does what optax's does there."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from optim.adamw import AdamW
from optim.jax.transformation import decays, matrices, transformation

_PARAMS = {
    "body": {"kernel": jnp.ones((3, 2)), "bias": jnp.ones(2)},
    "head": {"kernel": jnp.full((2, 2), 2.0), "bias": jnp.ones(2)},
}
_RATE, _DECAY = 1e-2, 0.1

_MASKS: dict[str, Any] = {
    "of the whole tree": matrices(_PARAMS),
    "of numpy's bools": jax.tree.map(np.bool_, matrices(_PARAMS)),
    "a function": matrices,
    "of subtrees": {"body": False, "head": True},
    "a function that gives subtrees": lambda _: {"body": True, "head": False},
    "one bool": False,
    "none": None,
}

_LABELS = {"body": {"kernel": "a", "bias": "b"}, "head": {"kernel": "b", "bias": "a"}}
_SOME = jax.tree.map(lambda label: label == "a", _LABELS)

Make = Callable[[], optax.GradientTransformation]

_AROUND: dict[str, Callable[[Make], Any]] = {
    "nothing": lambda make: make(),
    "multi_transform": lambda make: optax.multi_transform(
        {"a": make(), "b": optax.sgd(0.1)}, _LABELS
    ),
    "partition of a function": lambda make: optax.partition(
        {"a": make(), "b": make()}, lambda _: _LABELS
    ),
    "masked": lambda make: optax.masked(make(), _SOME),
    "chain": lambda make: optax.chain(optax.clip_by_global_norm(0.5), make()),
    "chain after": lambda make: optax.chain(make(), optax.masked(optax.set_to_zero(), _SOME)),
    "MultiSteps": lambda make: optax.MultiSteps(make(), 2),
    "apply_if_finite": lambda make: optax.apply_if_finite(make(), 3),
}


def _run(optimizer: Any, *, jit: bool = False) -> Any:
    params, state = _PARAMS, optimizer.init(_PARAMS)
    update = jax.jit(optimizer.update) if jit else optimizer.update
    for step in range(3):
        grads = jax.tree.map(lambda x, step=step: 0.3 * x - step, params)
        updates, state = update(grads, state, params)
        params = optax.apply_updates(params, updates)
    return params


def _ours(mask: Any) -> optax.GradientTransformation:
    return transformation(AdamW(learning_rate=_RATE, weight_decay=_DECAY), mask=mask)


def _assert_close(ours: Any, theirs: Any) -> None:
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5), ours, theirs)


_CASES = [(around, mask) for around in ("nothing", "multi_transform") for mask in _MASKS]
_CASES += [(around, "of the whole tree") for around in _AROUND if (around, "none") not in _CASES]


@pytest.mark.parametrize(("around", "mask"), _CASES)
def test_masks_are_those_of_optax(around: str, mask: str) -> None:
    wrap, value = _AROUND[around], _MASKS[mask]
    ours = wrap(lambda: _ours(value))
    theirs = wrap(lambda: optax.adamw(_RATE, weight_decay=_DECAY, mask=value))
    _assert_close(_run(ours), _run(theirs))


def test_a_mask_of_the_whole_tree_does_where_a_subtree_is_hidden() -> None:
    """There optax's own raises."""
    ours, theirs = (
        optax.multi_transform({"a": _ours(mask), "b": optax.sgd(0.1)}, {"body": "a", "head": "b"})
        for mask in (matrices(_PARAMS), matrices)
    )
    _assert_close(_run(ours), _run(theirs))


@pytest.mark.parametrize("jit", [False, True])
def test_hyperparameters_may_be_injected(jit: bool) -> None:
    inject = optax.inject_hyperparams(transformation, static_args=("algorithm", "mask"))
    rule = AdamW(weight_decay=_DECAY)
    for rate in (_RATE, lambda _: _RATE):
        _assert_close(_run(inject(rule, rate, mask=matrices), jit=jit), _run(_ours(matrices)))


def test_parameters_may_be_flattened() -> None:
    _assert_close(_run(optax.flatten(_ours(None))), _run(_ours(None)))


def test_a_mask_that_says_nothing_of_a_parameter_is_refused() -> None:
    with pytest.raises(ValueError, match=r"no bool for the parameter \['body'\]\['bias'\]"):
        decays({"body": {"kernel": True}, "head": False}, _PARAMS)


@pytest.mark.parametrize("of", [{"tail": True}, {"head": {"kernel": {"deeper": False}}}])
def test_a_mask_of_what_is_no_parameter_is_refused(of: dict[str, Any]) -> None:
    mask = jax.tree.map(lambda _: True, _PARAMS) | of
    with pytest.raises(ValueError, match=r"the mask has (a|no) bool for "):
        decays(mask, _PARAMS)
