"""Functions of named tensors and their gradients, in PyTorch."""

from collections.abc import Callable, Mapping
from typing import TypeAlias

import torch

Tensors: TypeAlias = Mapping[str, torch.Tensor]


def differentiate(
    function: Callable[..., Tensors], inputs: Tensors, cotangents: Tensors
) -> dict[str, torch.Tensor]:
    """Returns the results of a function, by name, and its inputs' gradients, as grad_NAME.

    Args:
      function: of the inputs by their names.
      inputs: tensors, of which copies are taken.
      cotangents: the gradients of the results, by the results' names.
    """
    leaves = {name: x.clone().requires_grad_() for name, x in inputs.items()}
    results = function(**leaves)
    found = torch.autograd.grad(
        [results[name] for name in cotangents],
        list(leaves.values()),
        list(cotangents.values()),
        materialize_grads=True,
    )
    return {**results, **{f"grad_{name}": x for name, x in zip(leaves, found, strict=True)}}
