"""One process with the model in memory: verifies the artifact, warms the model, computes.

It knows neither Ray, which runs it (deployment.py), nor gRPC, from which the requests come.
"""

import asyncio

import numpy as np

from models.network import Framework, Predict
from models.weights import WeightsError
from registry.artifact import ArtifactError, load
from serving.errors import RefusedArtifactError
from serving.model import ServedModel
from serving.predictor import predictor
from serving.signature import zeros
from serving.worker import Worker


class Replica:
    """The model of an artifact, warm.

    Args:
        model: what the gateway has told clients; the artifact is verified here, where it is read.
        framework: who computes; None for the framework that trained the model.
        max_batch_size: of the batches that will come; no other size than 1 to this is warm.

    Raises:
        RefusedArtifactError: a file is corrupt, the weights are not those of the network, or
            another artifact has taken the place of `model`'s.
    """

    def __init__(
        self, model: ServedModel, framework: Framework | None, max_batch_size: int
    ) -> None:
        try:
            self._worker = Worker(_predictor(model, framework))
        except (ArtifactError, WeightsError) as error:
            raise RefusedArtifactError(str(error)) from error
        for batch_size in _warm_sizes(max_batch_size):
            self._worker.submit(zeros(model.input, batch_size)).result()

    async def predict(self, batch: np.ndarray) -> np.ndarray:
        """Predictions for one batch. Requests are not merged here; each is computed as it comes.

        The event loop goes on meanwhile. Cancelled before its turn, the batch is not computed.
        """
        return await asyncio.wrap_future(self._worker.submit(batch))


def _predictor(model: ServedModel, framework: Framework | None) -> Predict:
    loaded = load(model.directory)
    if loaded.digest != model.digest:
        raise ArtifactError(
            f"{model.directory} is not the artifact {model.digest} that was to be served"
        )
    return predictor(loaded, framework)


def _warm_sizes(max_batch_size: int) -> list[int]:
    """One size for each to which JAX's networks pad a batch, and for which they compile once.

    These are the powers of two (models/flax/predict.py). The largest batch itself stands for the
    one that it is padded to.
    """
    powers = [2**exponent for exponent in range(max_batch_size.bit_length())]
    return sorted({*powers, max_batch_size})
