"""A DistributedDataParallel step of which nothing is left but the exchange of gradients.

The parameters are those of two transformer layers, 25 million. Their gradients lie in DDP's buckets
before the step begins, and backward does no more than say that they are ready, all at once: no
computation hides any of the exchange.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

_WIDTH = 1024
_LAYERS = 2
# Weight and bias of a pre-norm transformer layer with fused query, key and value projections.
_LAYER_SHAPES = (
    (_WIDTH,),
    (_WIDTH,),
    (3 * _WIDTH, _WIDTH),
    (3 * _WIDTH,),
    (_WIDTH, _WIDTH),
    (_WIDTH,),
    (_WIDTH,),
    (_WIDTH,),
    (4 * _WIDTH, _WIDTH),
    (4 * _WIDTH,),
    (_WIDTH, 4 * _WIDTH),
    (_WIDTH,),
)
SHAPES: tuple[tuple[int, ...], ...] = _LAYERS * _LAYER_SHAPES

# How a gradient is drawn: a part that all ranks share, of few directions whose strengths fall off,
# and the noise of a rank's own batch, so many tokens.
_COMMON_DIRECTIONS = 32
_TOKENS = 64


def make_gradients(shapes: Sequence[tuple[int, ...]], rank: int) -> list[torch.Tensor]:
    """Draws one rank's gradients, float32, always the same.

    A matrix's gradient is a sum of outer products, as a linear layer's is, with columns whose
    magnitudes are log-normal: so it is neither what favours a low-rank approximation most, nor the
    white noise that no such approximation can follow.
    """
    common = torch.Generator().manual_seed(0)
    own = torch.Generator().manual_seed(1 + rank)
    return [_gradient(shape, common, own) for shape in shapes]


def _gradient(
    shape: tuple[int, ...], common: torch.Generator, own: torch.Generator
) -> torch.Tensor:
    if len(shape) == 1:
        return torch.randn(shape, generator=common) + torch.randn(shape, generator=own)
    rows, columns = shape
    strengths = torch.arange(1, _COMMON_DIRECTIONS + 1).rsqrt()
    left = torch.randn(rows, _COMMON_DIRECTIONS, generator=common) * strengths
    right = torch.randn(_COMMON_DIRECTIONS, columns, generator=common)
    scales = torch.exp(torch.randn(columns, generator=common))
    errors = torch.randn(rows, _TOKENS, generator=own) * _TOKENS**-0.5
    inputs = torch.randn(_TOKENS, columns, generator=own)
    return (left @ right + errors @ inputs) * scales


class Exchange:
    """A model in DistributedDataParallel whose steps only exchange given gradients.

    Attributes:
      ddp: to register a communication hook on.
      num_bytes: of all gradients.
    """

    def __init__(self, values: Sequence[torch.Tensor]) -> None:
        """Makes the model.

        Args:
          values: of the parameters, which share their memory: several exchanges need it once.
        """
        self.ddp = DistributedDataParallel(
            _Ready(values), gradient_as_bucket_view=True, init_sync=False
        )
        self._parameters = list(self.ddp.parameters())
        self.num_bytes = sum(parameter.nbytes for parameter in self._parameters)

    def fill(self, gradients: Sequence[torch.Tensor]) -> None:
        """Puts gradients into DDP's buckets."""
        for parameter, gradient in zip(self._parameters, gradients, strict=True):
            if parameter.grad is None:
                parameter.grad = gradient.clone()
            else:
                parameter.grad.copy_(gradient)

    def step(self) -> None:
        """Averages over the ranks what `fill` has put there."""
        self.ddp().backward()

    def results(self) -> list[torch.Tensor]:
        """Returns the averages, not copied."""
        return [p.grad for p in self._parameters if p.grad is not None]


class _Ready(nn.Module):
    def __init__(self, values: Sequence[torch.Tensor]) -> None:
        super().__init__()
        self.weights = nn.ParameterList(nn.Parameter(value.detach()) for value in values)

    def forward(self) -> torch.Tensor:
        ready: torch.Tensor = _GradientsReady.apply(*self.weights)
        return ready


class _GradientsReady(torch.autograd.Function):
    """A loss whose backward leaves `.grad` as it is; DDP takes that as the gradients."""

    @staticmethod
    def forward(ctx: Any, *weights: torch.Tensor) -> torch.Tensor:
        ctx.num_weights = len(weights)
        return torch.zeros(())

    @staticmethod
    def backward(ctx: Any, *grad_outputs: torch.Tensor) -> tuple[None, ...]:
        return (None,) * ctx.num_weights
