"""A model's Flax network as a program of StableHLO, which runs without Flax and this code."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import jax
import jax.export
import numpy as np
from flax import nnx

from kernels.portable import portable_operations
from models.architecture import Model
from models.flax.weights import load_traced
from models.network import ExportError
from models.weights import weight_shapes

# Where the program can run; it is lowered for all of them, wherever it is made.
PLATFORMS = ("cpu", "cuda")

Arrays = dict[str, jax.Array]


def export(model: Model) -> bytes:
    """Returns the network as `jax.export.deserialize` takes it.

    It is a function of float32 weights by canonical name and of inputs by the signature's name, two
    dictionaries, and returns a dictionary of outputs. It holds no weights. The size of the batch is
    symbolic. Products are of float32 on every device. Equal models give equal bytes, in which there
    is no path of this machine.

    Raises:
        ExportError: The network asks for something that no such program can have.
    """
    source, result = model.signature
    shape = nnx.eval_shape(lambda: model.network.flax(model.config))

    def program(weights: Arrays, inputs: Arrays) -> Arrays:
        network: Any = load_traced(shape, weights)
        return {result.name: network(inputs[source.name])}

    (batch,) = jax.export.symbolic_shape("batch")
    weights = {
        name: jax.ShapeDtypeStruct(shape, np.float32)
        for name, shape in weight_shapes(model).items()
    }
    inputs = {source.name: jax.ShapeDtypeStruct((batch, *source.shape), np.dtype(source.dtype))}
    try:
        # Else a GPU would multiply float32 with 11 bits, and agree with nothing to 1e-6.
        exact = jax.default_matmul_precision("highest")
        with portable_operations(), _without_places(), exact:
            exported = jax.export.export(jax.jit(program), platforms=PLATFORMS)(weights, inputs)
    except (TypeError, ValueError, NotImplementedError) as error:
        raise ExportError(
            f"{model.architecture} cannot be made a program of StableHLO with a symbolic batch: "
            f"{str(error).partition(chr(10))[0]}"
        ) from error
    return bytes(exported.serialize())


@contextmanager
def _without_places() -> Iterator[None]:
    """Traces without noting in which line of which file an operation was asked for."""
    name = "jax_traceback_in_locations_limit"
    before = getattr(jax.config, name)
    jax.config.update(name, 0)
    try:
        yield
    finally:
        jax.config.update(name, before)
