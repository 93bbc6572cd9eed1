"""The specification itself: its gradients against finite differences, its sum against the loop."""

import itertools

import numpy as np
import pytest

from kernels.linear_attention import reference
from kernels.linear_attention.contract import FEATURE_MAPS, Extras, Options, State

# Central differences of float64 with this step leave about 1e-10.
STEP = 1e-5
GRADIENT_TOLERANCE = 1e-7

SHAPES = {
    "q": (2, 5, 4, 3),
    "k": (2, 5, 2, 3),
    "v": (2, 5, 2, 2),
    "decay": (2, 4),
    "initial_kv": (2, 4, 3, 2),
    "initial_k_sum": (2, 4, 3),
}


def _arrays(seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    arrays = {name: rng.standard_normal(shape) for name, shape in SHAPES.items()}
    arrays["decay"] = rng.uniform(0.3, 1.0, SHAPES["decay"])
    arrays["initial_k_sum"] = rng.uniform(0.5, 1.0, SHAPES["initial_k_sum"])
    return arrays


def _run(arrays: dict[str, np.ndarray], options: Options) -> tuple[np.ndarray, State]:
    q, k, v, *extras = arrays.values()
    return reference.forward(q, k, v, options, Extras(*extras))


@pytest.mark.parametrize("normalize", [False, True], ids=["plain", "normalized"])
@pytest.mark.parametrize("feature_map", range(len(FEATURE_MAPS)), ids=FEATURE_MAPS)
def test_gradients_match_finite_differences(feature_map: int, normalize: bool) -> None:
    options = Options(True, feature_map, normalize, eps=0.7, scale=0.6)
    _check_gradients(_arrays(), options)


def test_gradients_of_the_form_that_is_not_causal() -> None:
    arrays = _arrays()
    arrays["decay"] = np.ones(SHAPES["decay"])
    _check_gradients(arrays, Options(causal=False), skip=("decay",))


def _check_gradients(
    arrays: dict[str, np.ndarray], options: Options, skip: tuple[str, ...] = ()
) -> None:
    rng = np.random.default_rng(1)
    out, final = _run(arrays, options)
    grad_out, *grad_final = (rng.standard_normal(x.shape) for x in (out, *final))

    def loss() -> float:
        results = _run(arrays, options)
        return sum(
            float(np.sum(g * x))
            for g, x in zip((grad_out, *grad_final), (results[0], *results[1]), strict=True)
        )

    q, k, v, *extras = arrays.values()
    gradients = reference.backward(q, k, v, grad_out, options, Extras(*extras), State(*grad_final))
    for name, got in gradients._asdict().items():
        if name in skip:
            continue
        for index in itertools.islice(np.ndindex(got.shape), 0, None, 3):
            kept = arrays[name][index]
            values = []
            for step in (STEP, -STEP):
                arrays[name][index] = kept + step
                values.append(loss())
            arrays[name][index] = kept
            slope = (values[0] - values[1]) / (2 * STEP)
            assert got[index] == pytest.approx(slope, rel=1e-6, abs=GRADIENT_TOLERANCE), name


@pytest.mark.parametrize("normalize", [False, True], ids=["plain", "normalized"])
def test_is_the_recurrence(normalize: bool) -> None:
    """S_i = decay S_(i-1) + phi(k_i) v_i^T; out_i = phi(q_i)^T S_i / phi(q_i) . z_i."""
    arrays = _arrays()
    q, k, v, decay, kv, k_sum = (x.copy() for x in arrays.values())
    options = Options(normalize=normalize, eps=0.1, scale=0.5)
    out, final = _run(arrays, options)

    def phi(x: np.ndarray) -> np.ndarray:
        return np.where(x > 0, x + 1, np.exp(x))

    for i in range(q.shape[1]):
        keys, values = (np.repeat(x[:, i], 2, axis=1) for x in (phi(k), v))
        kv = decay[..., None, None] * kv + keys[..., :, None] * values[..., None, :]
        k_sum = decay[..., None] * k_sum + keys
        numerator = np.einsum("bhd,bhde->bhe", phi(q)[:, i], kv)
        denominator = np.einsum("bhd,bhd->bh", phi(q)[:, i], k_sum)[..., None]
        want = numerator / (denominator + 0.1) if normalize else 0.5 * numerator
        np.testing.assert_allclose(out[:, i], want, rtol=1e-12)
    np.testing.assert_allclose(final.kv, kv, rtol=1e-12)
    np.testing.assert_allclose(final.k_sum, k_sum, rtol=1e-12)
