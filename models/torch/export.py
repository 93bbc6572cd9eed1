"""A model's PyTorch network as a program of torch.export, which runs without this code.

The archive that is written needs no pickle to be read: the program has no weights and no example
inputs, which would be pickled, and its constants are stored as raw bytes.
"""

import io
import warnings

import torch
from torch import nn

from kernels.portable import portable_operations
from models.architecture import Model
from models.network import ExportError
from models.weights import weight_shapes

# Of the batch that is traced; torch.export takes 0 and 1 for constants.
_TRACED_BATCH = 2

# What nodes of a graph remember of how they came to be: lines of files on this machine.
_PLACES = ("from_node", "nn_module_stack", "source_fn_stack", "stack_trace", "torch_fn")

Tensors = dict[str, torch.Tensor]


def export(model: Model) -> bytes:
    """Returns the network as `torch.export.load` takes it.

    It is a function of float32 weights by canonical name and of inputs by the signature's name, two
    dictionaries whose keys are in alphabetical order, and returns a dictionary of outputs. It holds
    no weights. The size of the batch is dynamic. Equal models give equal bytes, in which there is
    no path of this machine.

    Raises:
        ExportError: The network asks for something that no such program can have.
    """
    source = model.signature.input
    weights = {name: torch.zeros(shape) for name, shape in sorted(weight_shapes(model).items())}
    batch = torch.zeros((_TRACED_BATCH, *source.shape), dtype=getattr(torch, source.dtype))
    dynamic = {
        "weights": dict.fromkeys(weights),
        "inputs": {source.name: {0: torch.export.Dim("batch", min=1)}},
    }
    try:
        with (
            portable_operations(),
            torch.no_grad(),
            # What opt_einsum finds best depends on the sizes.
            torch.backends.opt_einsum.flags(enabled=False),
            # PyTorch copies trees in a way that it has deprecated itself.
            warnings.catch_warnings(action="ignore", category=FutureWarning),
        ):
            program = torch.export.export(
                _Program(model), (weights, {source.name: batch}), dynamic_shapes=dynamic
            ).run_decompositions({})
    except (RuntimeError, TypeError, ValueError) as error:
        raise ExportError(
            f"{model.architecture} cannot be made a program of torch.export with a dynamic batch: "
            f"{str(error).partition(chr(10))[0]}"
        ) from error
    return _archive(program)


class _Program(nn.Module):
    """The network as a function of its weights: no parameter is registered."""

    def __init__(self, model: Model):
        super().__init__()
        with torch.device("meta"):
            self._network = (model.network.torch(model.config).eval(),)
        self._input, self._output = model.signature.input.name, model.signature.output.name

    def forward(self, weights: Tensors, inputs: Tensors) -> Tensors:
        given = (inputs[self._input],)
        output = torch.func.functional_call(self._network[0], weights, given, strict=True)
        return {self._output: output}


def _archive(program: torch.export.ExportedProgram) -> bytes:
    for node in program.graph.nodes:
        for place in _PLACES:
            node.meta.pop(place, None)
    program.example_inputs = None
    file = io.BytesIO()
    torch.export.save(program, file)
    return file.getvalue()
