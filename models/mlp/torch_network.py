"""The residual stack in PyTorch; `flax_network.py` is its twin, line for line.

Shape suffixes:
  B = batch, T = tokens, D = width
"""

import dataclasses
from itertools import accumulate, pairwise

import torch
import torch.nn.functional as F
from torch import nn

from models.context import Context
from models.layers.activation.torch_layer import ACTIVATIONS
from models.layers.checkpointing.torch_layer import checkpointed
from models.layers.dropout.torch_layer import dropout
from models.layers.embedding.torch_layer import Embedding
from models.layers.head.torch_layer import Head
from models.layers.linear.torch_layer import Linear
from models.layers.norm.torch_layer import Norm
from models.layers.positions.torch_layer import LearnedPositions
from models.mlp.config import MlpConfig
from models.mlp.torch_block import Block


class Mlp(nn.Module):
    """What `config.input` says, `[batch, ...]`, to what `config.head` says, in float32 or more.

    Computes in `context.dtype`, or in that of its weights. Tokens below 0 are padding, on either
    side; in decoding, it is on the left alone.
    """

    def __init__(self, config: MlpConfig):
        super().__init__()
        self.config = config
        first, last = config.hidden_sizes[0], config.hidden_sizes[-1]
        self.embedding = Embedding(config.input, first)
        has_class_token = config.head.pooling == "class_token"
        self.class_token = nn.Parameter(torch.zeros(first)) if has_class_token else None
        self.positions = (
            LearnedPositions(config.input.seq_len, first, name="positions")
            if config.positions.learned.enabled
            else None
        )
        self.projections = nn.ModuleList(Linear(*sizes) for sizes in pairwise(config.hidden_sizes))
        self.blocks = nn.ModuleList(
            Block(config, index, width) for index, width in enumerate(config.block_widths)
        )
        self.norm = Norm(config.norm, last) if config.final_norm else None
        self.head = Head(config.head, last, config.num_outputs, name="head")

    def forward(self, inputs: torch.Tensor, context: Context | None = None) -> torch.Tensor:
        context = context or Context()
        if self.config.input.tokens is not None and context.segment_ids is None:
            ids = torch.where(inputs < 0, -1, 0).int()
            context = dataclasses.replace(context, segment_ids=ids)
        x_BTD, context = self._stem(inputs, context)
        ends = accumulate(self.config.blocks_of_stages)
        for stage, end in enumerate(ends):
            if stage:
                x_BTD = self.projections[stage - 1](x_BTD)
                x_BTD = self._activated(x_BTD, context, f"projections.{stage - 1}")
            for index in range(end - self.config.blocks_of_stages[stage], end):
                x_BTD = checkpointed(self.blocks[index], x_BTD, context)
                context.sow_value(f"blocks.{index}", x_BTD)
        x_BTD = x_BTD if self.norm is None else self.norm(x_BTD)
        y: torch.Tensor = self.head(x_BTD, context, self.embedding.weight)
        return y

    def _stem(self, inputs: torch.Tensor, context: Context) -> tuple[torch.Tensor, Context]:
        """Returns the first stage's tokens, and a context that knows of a class token."""
        dtype = getattr(torch, context.dtype) if context.dtype else self.embedding.dtype
        x_BTD = self._activated(self.embedding(inputs, dtype), context, "embedding")
        if self.positions is not None:
            x_BTD = self.positions(x_BTD, context)
        if self.class_token is not None:
            token_B1D = self.class_token.to(dtype).expand(x_BTD.shape[0], 1, -1)
            x_BTD, context = _in_front(token_B1D, x_BTD, context)
        x_BTD = dropout(x_BTD, self.config.embedding_dropout_rate, context, "stem")
        context.sow_value("stem", x_BTD)
        return x_BTD, context

    def _activated(self, x_BTD: torch.Tensor, context: Context, name: str) -> torch.Tensor:
        """Returns what follows the layer that leads into a stage."""
        x_BTD = ACTIVATIONS[self.config.activation](x_BTD)
        x_BTD = dropout(x_BTD, self.config.dropout_rate, context, name)
        context.sow_value(name, x_BTD)
        return x_BTD


def _in_front(
    token_B1D: torch.Tensor, x_BTD: torch.Tensor, context: Context
) -> tuple[torch.Tensor, Context]:
    """Puts a token right before an example's own; padding on the left stays in front of both."""
    x_BTD, ids_BT = torch.cat((token_B1D, x_BTD), dim=1), context.segment_ids
    if ids_BT is None:
        return x_BTD, context
    padding_B1 = (ids_BT < 0).int().cumprod(dim=1).sum(dim=1, keepdim=True)
    place_T = torch.arange(x_BTD.shape[1], device=ids_BT.device)
    source_BT = torch.where(place_T < padding_B1, place_T + 1, place_T)
    source_BT = torch.where(place_T == padding_B1, 0, source_BT)
    # Not torch.take_along_dim, of which torch.export makes a program for one size of the batch.
    ids_BT = F.pad(ids_BT, (1, 0)).gather(1, source_BT)
    x_BTD = x_BTD.gather(1, source_BT[..., None].expand(-1, -1, x_BTD.shape[2]))
    return x_BTD, dataclasses.replace(context, segment_ids=ids_BT)
