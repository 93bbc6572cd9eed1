"""Many feed-forwards, each over tokens of its own, in PyTorch; `flax_experts.py` is its twin.

Here shapes may depend on values: rows are sorted by expert, and each does as many as it has.

Shape suffixes:
  N = tokens of a batch, D = width, E = experts, R = rows, one for each expert of each token
"""

import dataclasses

import torch
import torch.nn.functional as F
from torch import nn

from kernels.portable import is_portable
from models.context import Context
from models.layers.activation.torch_layer import ACTIVATIONS
from models.layers.dropout.torch_layer import dropout
from models.layers.feed_forward.config import FeedForwardConfig


class Linears(nn.Module):
    """Rows `[rows, inputs]`, sorted by expert, to `[rows, outputs]`, each by its own expert."""

    def __init__(self, experts: int, inputs: int, outputs: int, *, bias: bool):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(experts, outputs, inputs))
        self.bias = nn.Parameter(torch.zeros(experts, outputs)) if bias else None

    def forward(self, x: torch.Tensor, counts: list[int]) -> torch.Tensor:
        # Unbound at once: the gradient of each slice alone would be as large as the whole.
        weights = self.weight.to(x.dtype).unbind()
        biases = [None] * len(counts) if self.bias is None else self.bias.to(x.dtype).unbind()
        parts = zip(x.split(counts), weights, biases, strict=True)
        return torch.cat([F.linear(rows, weight, bias) for rows, weight, bias in parts])

    def of_all(self, x: torch.Tensor) -> torch.Tensor:
        """Rows `[rows, inputs]`, or `[experts, rows, inputs]`, to `[experts, rows, outputs]`."""
        y = x @ self.weight.to(x.dtype).transpose(1, 2)
        return y if self.bias is None else y + self.bias.to(x.dtype)[:, None]


class Experts(nn.Module):
    """The feed-forwards of a mixture; their weights are one tensor each, `[experts, ...]`."""

    def __init__(self, config: FeedForwardConfig, experts: int, width: int, *, name: str):
        super().__init__()
        self.activation, self.dropout_rate, self.name = config.activation, config.dropout_rate, name
        hidden = config.hidden(width)
        self.fc1 = Linears(experts, width, hidden, bias=config.bias)
        self.gate = (
            Linears(experts, width, hidden, bias=config.bias) if config.kind == "gated" else None
        )
        self.fc2 = Linears(experts, hidden, width, bias=config.bias)

    def forward(
        self,
        x_ND: torch.Tensor,
        gates_NE: torch.Tensor,
        kept_NE: torch.Tensor,
        seeds_N: torch.Tensor | None,
        context: Context,
    ) -> torch.Tensor:
        """Adds up what experts make of each token.

        Args:
            x_ND: Tokens.
            gates_NE: By what each expert's output is multiplied.
            kept_NE: Which experts a token goes through.
            seeds_N: From which a token's random numbers are made; None if none are.
            context: Of the pass.
        """
        if is_portable():
            return self._all_of_all(x_ND, torch.where(kept_NE, gates_NE, 0.0))
        expert_R, token_R = kept_NE.T.nonzero(as_tuple=True)
        counts = kept_NE.sum(dim=0).tolist()
        hidden = self._hidden(x_ND[token_R], counts)
        hidden = self._dropped(hidden, token_R, expert_R, seeds_N, context)
        gates_R = gates_NE[token_R, expert_R]
        y = self.fc2(hidden, counts) * gates_R[:, None].to(x_ND.dtype)
        return torch.zeros_like(x_ND).index_add(0, token_R, y)

    def _all_of_all(self, x_ND: torch.Tensor, gates_NE: torch.Tensor) -> torch.Tensor:
        """As `forward` where nothing is dropped, by each expert on each token.

        So no shape depends on values, as none must in a program.
        """
        activate = ACTIVATIONS[self.activation]
        hidden_ENF = self.fc1.of_all(x_ND)
        if self.gate is None:
            hidden_ENF = activate(hidden_ENF)
        else:
            hidden_ENF = hidden_ENF * activate(self.gate.of_all(x_ND))
        y_END = self.fc2.of_all(hidden_ENF)
        return (y_END * gates_NE.T[..., None].to(x_ND.dtype)).sum(dim=0)

    def _hidden(self, rows: torch.Tensor, counts: list[int]) -> torch.Tensor:
        activate = ACTIVATIONS[self.activation]
        hidden = self.fc1(rows, counts)
        if self.gate is None:
            return activate(hidden)
        return hidden * activate(self.gate(rows, counts))

    def _dropped(
        self,
        hidden: torch.Tensor,
        token_R: torch.Tensor,
        expert_R: torch.Tensor,
        seeds_N: torch.Tensor | None,
        context: Context,
    ) -> torch.Tensor:
        if seeds_N is None:
            return hidden
        of_rows = dataclasses.replace(context, seeds=seeds_N[token_R] + (expert_R << 24))
        return dropout(hidden, self.dropout_rate, of_rows, f"{self.name}.hidden")
