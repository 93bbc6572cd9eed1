"""Both ways to update refuse what is no gradient, and say why."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental.sparse import BCOO

from optim.jax.transformation import transformation
from optim.jax.ways import WAYS
from optim.sophia import Sophia

_PARAMS = {"bias": jnp.ones(2), "table": jnp.ones((3, 2))}
_RULE = Sophia()

_PLACE = r"for a parameter of shape \(3, 2\)"
_BAD = [
    (BCOO.fromdense(jnp.ones((3, 2))), TypeError, f"expected dense {{}}, got BCOO {_PLACE}; acc"),
    (None, TypeError, f"expected dense {{}}, got None {_PLACE}"),
    (0.5, TypeError, f"expected dense {{}}, got float {_PLACE}"),
    (jnp.ones((3, 2), jnp.complex64), TypeError, "expected real floating-point {}, got complex64"),
    (np.ones((3, 2), np.int32), TypeError, "expected real floating-point {}, got int32"),
    (jnp.ones((2, 3)), ValueError, rf"expected {{}} of the .* shapes, got \(2, 3\) {_PLACE}"),
    (jnp.ones(()), ValueError, rf"expected {{}} of the parameters' shapes, got \(\) {_PLACE}"),
]


@pytest.mark.parametrize("step", WAYS)
@pytest.mark.parametrize(("leaf", "error", "message"), _BAD)
@pytest.mark.parametrize("what", ["gradients", "curvature"])
@pytest.mark.parametrize("jit", [False, True])
def test_refuses(
    step: Any, leaf: Any, error: type[Exception], message: str, what: str, jit: bool
) -> None:
    trees = {"gradients": _PARAMS, "curvature": _PARAMS}
    trees[what] = _PARAMS | {"table": leaf}

    def run(trees: dict[str, Any]) -> Any:
        state = transformation(_RULE).init(_PARAMS)
        return step(_RULE, _PARAMS, state, trees["gradients"], curvature=trees["curvature"])

    with pytest.raises(error, match=message.format(what)):
        # A number would be an array by then.
        (jax.jit(run) if jit and not isinstance(leaf, float) else run)(trees)


@pytest.mark.parametrize("step", WAYS)
def test_refuses_another_tree(step: Any) -> None:
    state = transformation(_RULE).init(_PARAMS)
    with pytest.raises(ValueError, match="bias"):
        step(_RULE, _PARAMS, state, {"table": _PARAMS["table"]})


@pytest.mark.parametrize("step", WAYS)
def test_arrays_of_numpy_are_as_good(step: Any) -> None:
    params = {"scale": jnp.ones(()), **_PARAMS}
    grads = jax.tree.map(lambda x: np.float32(0.5) * np.asarray(x), params)
    state = transformation(_RULE).init(params)
    expected = step(_RULE, params, state, jax.tree.map(jnp.asarray, grads))
    jax.tree.map(np.testing.assert_array_equal, step(_RULE, params, state, grads), expected)
