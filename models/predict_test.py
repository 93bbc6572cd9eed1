"""Both frameworks predict the same for batches of any size, of images and of tokens."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
import pytest

from models.architecture import Model, parse_model
from models.flax import predict as flax_predict
from models.testing.parity import stirred
from models.torch import predict as torch_predict

# A few hundred rounded float32 operations lie between input and logit; values are about 1.
TOLERANCE = 2e-5

_STACK: dict[str, Any] = {
    "hidden_sizes": [8],
    "num_blocks": 1,
    "activation": "identity",
    "num_classes": 3,
    "mixer": {"kind": "attention", "num_heads": 2},
}
MODELS: Mapping[str, Model] = {
    "images": parse_model(
        "mlp",
        _STACK | {"input": {"patches": {"image_size": 4, "patch_size": 2, "num_channels": 1}}},
    ),
    "tokens": parse_model("mlp", _STACK | {"input": {"tokens": {"vocab_size": 5, "seq_len": 6}}}),
}


def _inputs(model: Model, batch: int) -> np.ndarray:
    spec, rng = model.signature.input, np.random.default_rng(3)
    if spec.dtype == "int32":
        return rng.integers(-1, 5, (batch, *spec.shape), np.int32)
    return rng.random((batch, *spec.shape), dtype=np.float32)


@pytest.mark.parametrize("case", MODELS)
def test_predictions_are_the_same_for_any_batch(case: str) -> None:
    model = MODELS[case]
    weights = stirred(model.network.weights(model.config), "float32")
    flax, torch = (side.predict_fn(model, weights) for side in (flax_predict, torch_predict))
    everything = _inputs(model, 5)
    everything.setflags(write=False)
    expected = torch(everything)
    for batch in (0, 1, 3, 5):
        for predict in (flax, torch):
            logits = predict(everything[:batch])
            assert logits.shape == (batch, 3) and logits.dtype == np.float32
            np.testing.assert_allclose(logits, expected[:batch], rtol=0, atol=TOLERANCE)


def test_new_weights_are_not_compiled_for_again() -> None:
    model = MODELS["images"]
    predict_fn, inputs = flax_predict.predictor(model), _inputs(model, 5)
    compiled: list[str] = []

    def heard(event: str, duration: float, **_: str | int) -> None:
        if event == "/jax/core/compile/backend_compile_duration":
            compiled.append(event)

    outputs, counts = [], []
    jax.monitoring.register_event_duration_secs_listener(heard)
    try:
        for seed in (1, 2):
            weights = stirred(model.network.weights(model.config), "float32", seed=seed)
            predict = predict_fn(weights)
            compiled.clear()
            outputs.append(predict(inputs))
            counts.append(len(compiled))
            expected = torch_predict.predict_fn(model, weights)(inputs)
            np.testing.assert_allclose(outputs[-1], expected, rtol=0, atol=TOLERANCE)
    finally:
        jax.monitoring.unregister_event_duration_listener(heard)
    assert not np.allclose(*outputs)
    assert counts == [1, 0]
