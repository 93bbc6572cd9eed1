"""Programs of `torch.export`. Needs PyTorch."""

import io
import threading
from collections.abc import Mapping
from typing import Any

import ml_dtypes
import numpy as np
import torch

from registry.programs.arguments import check_weights
from registry.programs.errors import ProgramError
from registry.programs.torch_archive import checked_archive

Arrays = Mapping[str, np.ndarray]

# `torch.export.load` keeps what it is reading in a global variable.
_LOADING = threading.Lock()


def load(content: bytes, weights: Arrays) -> Any:
    """See `registry.programs.program.Loader`."""
    clean = checked_archive(content)
    with _LOADING:
        program = torch.export.load(io.BytesIO(clean))
    wanted, inputs = _arguments(program)
    check_weights(weights, wanted)
    # In the order in which the program was traced; PyTorch takes no other.
    held = {name: _to_torch(weights[name]) for name in wanted}
    module = program.module(check_guards=False)

    @torch.inference_mode()
    def run(batch: Arrays) -> dict[str, np.ndarray]:
        results = module(held, {name: _to_torch(batch[name]) for name in inputs})
        return {name: _to_numpy(result) for name, result in results.items()}

    return run


def _to_torch(array: np.ndarray) -> torch.Tensor:
    """A copy: arrays may be read-only memory, which torch would warn about sharing."""
    if array.dtype == ml_dtypes.bfloat16:  # which torch does not take from NumPy
        return torch.tensor(array.view(np.int16)).view(torch.bfloat16)
    return torch.tensor(array)


def _to_numpy(tensor: torch.Tensor) -> np.ndarray:
    if tensor.dtype == torch.bfloat16:
        return tensor.contiguous().view(torch.int16).numpy().view(ml_dtypes.bfloat16)
    return tensor.numpy()


def _arguments(program: torch.export.ExportedProgram) -> tuple[dict[str, Any], list[str]]:
    """Returns the shapes and types of the weights, and the names of the inputs, of a program."""
    values = {
        node.name: node.meta["val"] for node in program.graph.nodes if node.op == "placeholder"
    }
    leaves = [values[name] for name in program.graph_signature.user_inputs]
    try:
        (weights, inputs), _ = torch.utils._pytree.tree_unflatten(leaves, program.call_spec.in_spec)
        kinds = {
            name: (tuple(x.shape), str(x.dtype).removeprefix("torch."))
            for name, x in weights.items()
        }
    except (AttributeError, TypeError, ValueError) as error:
        raise ProgramError(
            "the torch_export program is not a function of weights and inputs, two dictionaries"
        ) from error
    return kinds, list(inputs)
