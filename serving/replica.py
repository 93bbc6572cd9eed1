"""One process with the model in memory: verifies the artifact, warms the model, computes.

It knows neither Ray, which runs it (deployment.py), nor gRPC, from which the requests come.
"""

import asyncio
from pathlib import Path

import numpy as np

from registry.artifact import ArtifactError, load
from serving.model import served_model
from serving.predictor import Framework, predictor
from serving.signature import zeros
from serving.worker import Worker


class Replica:
    """The model of an artifact, warm.

    Args:
        directory: the artifact, verified here because this process reads it.
        digest: the artifact expected there.
        framework: who computes; None for the framework that trained the model.
        max_batch_size: of the batches that will come; no other size than 1 to this is warm.
    """

    def __init__(
        self, directory: str, digest: str, framework: Framework | None, max_batch_size: int
    ) -> None:
        loaded = load(Path(directory))
        if loaded.digest != digest:
            raise ArtifactError(f"{directory} is not the artifact {digest} that was to be served")
        self._worker = Worker(predictor(loaded, framework))
        spec = served_model(loaded).input
        for batch_size in _warm_sizes(max_batch_size):
            self._worker.submit(zeros(spec, batch_size)).result()

    async def predict(self, batch: np.ndarray) -> np.ndarray:
        """Predictions for one batch. Requests are not merged here; each is computed as it comes.

        The event loop goes on meanwhile. Cancelled before its turn, the batch is not computed.
        """
        return await asyncio.wrap_future(self._worker.submit(batch))


def _warm_sizes(max_batch_size: int) -> list[int]:
    """One size for each to which JAX's networks pad a batch, and for which they compile once.

    These are the powers of two (models/flax/predict.py). The largest batch itself stands for the
    one that it is padded to.
    """
    powers = [2**exponent for exponent in range(max_batch_size.bit_length())]
    return sorted({*powers, max_batch_size})
