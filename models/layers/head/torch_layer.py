"""A head in PyTorch; `flax_layer.py` is its twin.

Shape suffixes:
  B = batch, T = tokens, D = width, K = outputs
"""

import torch
import torch.nn.functional as F
from torch import nn

from models.context import Context
from models.layers.dropout.torch_layer import dropout
from models.layers.head.config import HeadConfig


class Head(nn.Module):
    """Tokens `[batch, seq_len, width]` to `[batch, outputs]`, of the next token for each of them.

    What it returns is float32 or more. Padding has no part in an answer.
    """

    def __init__(self, config: HeadConfig, width: int, outputs: int, *, name: str):
        super().__init__()
        self.config, self.name = config, name
        self.weight = None if config.tied else nn.Parameter(torch.zeros(outputs, width))
        self.bias = nn.Parameter(torch.zeros(outputs)) if config.bias else None

    def forward(
        self, x_BTD: torch.Tensor, context: Context, embedding_KD: torch.Tensor | None = None
    ) -> torch.Tensor:
        x = x_BTD if self.config.kind == "next_token" else self._pooled(x_BTD, context)
        x = dropout(x, self.config.dropout_rate, context, self.name)
        weight = self._weight(embedding_KD).to(x.dtype)
        y = F.linear(x, weight).to(torch.promote_types(x.dtype, torch.float32))
        if self.bias is not None:
            y = y + self.bias.to(y.dtype)
        softcap = self.config.logit_softcap
        return y if softcap is None else softcap * torch.tanh(y / softcap)

    def _weight(self, embedding_KD: torch.Tensor | None) -> torch.Tensor:
        if self.weight is not None:
            return self.weight
        assert embedding_KD is not None, "a tied head is given the embedding"
        return embedding_KD

    def _pooled(self, x_BTD: torch.Tensor, context: Context) -> torch.Tensor:
        """Returns the one vector of each example, `[batch, width]`."""
        pooling, ids = self.config.pooling, context.segment_ids
        if ids is None and pooling != "mean":
            return x_BTD[:, 0 if pooling == "class_token" else -1]
        # In float16 a sum of many tokens would be infinite.
        wide_BTD = x_BTD.to(torch.promote_types(x_BTD.dtype, torch.float32))
        if ids is None:
            return wide_BTD.mean(dim=1).to(x_BTD.dtype)
        present_BT = ids >= 0
        if pooling == "mean":
            count_B1 = present_BT.sum(dim=1, keepdim=True).clamp(min=1)
            total_BD = wide_BTD.masked_fill(~present_BT[..., None], 0).sum(dim=1)
            return (total_BD / count_B1).to(x_BTD.dtype)
        place_BT = present_BT * torch.arange(x_BTD.shape[1], device=ids.device)
        place_B = present_BT.int().argmax(dim=1) if pooling == "class_token" else place_BT.amax(1)
        # Not torch.take_along_dim, of which torch.export makes a program for one size of the batch.
        return x_BTD.gather(1, place_B[:, None, None].expand(-1, 1, x_BTD.shape[2]))[:, 0]
