"""Trained weights to a prediction function, in Flax."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from flax import nnx

from models.architecture import Model
from models.flax.weights import from_canonical
from models.network import Predict
from models.weights import Weights


def predict_fn(model: Model, weights: Weights) -> Predict:
    """Builds a compiled function from inputs to outputs.

    Batches are padded to the next power of two, so that a server compiles for a handful of sizes
    and not for each one that arrives.

    Args:
        model: Which.
        weights: Its canonical float32 weights.

    Returns:
        A thread-safe function of a batch; shapes and dtypes are those of `model.signature`, with
        the batch in front.

    Raises:
        WeightsError: The weights do not belong to this model.
    """
    return predictor(model)(weights)


def predictor(model: Model) -> Callable[[Weights], Predict]:
    """Returns `predict_fn` of one model, for weights that change.

    What it returns compiles for a size of batch once, whatever the weights.
    """
    shape = nnx.eval_shape(lambda: model.network.flax(model.config))
    graph, dtype = nnx.graphdef(shape), model.signature.input.dtype

    @jax.jit
    def outputs_of(params: nnx.State[Any, Any], inputs: jax.Array) -> jax.Array:
        return nnx.merge(graph, params)(inputs)

    def predict_fn(weights: Weights) -> Predict:
        params = nnx.state(from_canonical(model, weights))

        def predict(inputs: np.ndarray) -> np.ndarray:
            batch = len(inputs)
            padded = np.zeros((_next_power_of_two(batch), *inputs.shape[1:]), dtype)
            padded[:batch] = inputs
            return np.asarray(outputs_of(params, padded))[:batch]

        return predict

    return predict_fn


def _next_power_of_two(size: int) -> int:
    return 1 << max(size - 1, 0).bit_length()
