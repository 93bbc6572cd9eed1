"""Learned positions in PyTorch; `flax_layer.py` is its twin.

Shape suffixes:
  B = batch, T = tokens, D = width
"""

import torch
from torch import nn

from models.context import Context


class LearnedPositions(nn.Module):
    """Adds to tokens `[batch, seq_len, width]` the vectors of their positions.

    Positions are counted over an example's tokens without its padding, on whichever side that is,
    and in decoding from the tokens before on.
    """

    def __init__(self, seq_len: int, width: int, *, name: str):
        super().__init__()
        self.name = name
        self.weight = nn.Parameter(torch.zeros(seq_len, width))

    def forward(self, x_BTD: torch.Tensor, context: Context) -> torch.Tensor:
        table = self.weight.to(x_BTD.dtype)
        if context.segment_ids is None and context.caches is None:
            return x_BTD + table[: x_BTD.shape[1]]
        return x_BTD + table[self._positions(x_BTD, context).clamp(0, len(table) - 1)]

    def _positions(self, x_BTD: torch.Tensor, context: Context) -> torch.Tensor:
        """Returns the position of each token, `[batch, seq_len]`; of padding, any."""
        ids = context.segment_ids
        shape, device = x_BTD.shape[:2], x_BTD.device
        present_BT = torch.ones(shape, device=device) if ids is None else ids >= 0
        counts_BT = torch.cumsum(present_BT, dim=1, dtype=torch.int32)
        if context.caches is not None:
            before = torch.zeros((1, 1), dtype=torch.int32, device=device)
            counts_BT = counts_BT + context.caches.get(self.name, before)
            context.sown.caches[self.name] = counts_BT[:, -1:]
        return counts_BT - 1
