"""A module's weights, whole, whatever partition of them a rank holds.

One tensor at a time is whole besides what is returned: of all of them a GPU, or DeepSpeed's buffers
for weights in files, may not have room.
"""

from collections.abc import Mapping

import deepspeed
import torch
from torch import nn

from models.weights import Weights


def whole_weights(module: nn.Module) -> Weights:
    """Returns a copy of weights and statistics; collective."""
    found = {}
    for name, tensor in module.state_dict(keep_vars=True).items():
        with deepspeed.zero.GatheredParameters([tensor]):
            found[name] = tensor.detach().cpu().numpy().copy()
    return found


@torch.no_grad()
def set_weights(module: nn.Module, weights: Mapping[str, torch.Tensor]) -> None:
    """Replaces weights and statistics by the first rank's; collective."""
    for name, tensor in module.state_dict(keep_vars=True).items():
        with deepspeed.zero.GatheredParameters([tensor], modifier_rank=0):
            tensor.copy_(weights[name])
