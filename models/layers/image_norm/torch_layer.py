"""Normalisations of images in PyTorch; `flax_layer.py` is its twin, and says where they are from.

Where PyTorch has a normalisation of its own it computes it, faster than its parts would.

Shape suffixes:
  B = batch, H = height, W = width, C = channels
"""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from models.context import Context
from models.layers.image_norm.config import ImageNormConfig
from models.layers.image_norm.count import require_several
from models.layers.image_norm.weights import NUM_MIXED


class _Moments(NamedTuple):
    """A mean and a variance, `[batch or 1, channels]` each."""

    mean: torch.Tensor
    variance: torch.Tensor


class ImageNorm(nn.Module):
    """`[batch, height, width, channels]` to the same, computed in float32 or more.

    Returns the dtype of its input. In training it sows the new running statistics.

    Args:
        config: Which.
        channels: How many.
        name: Its canonical name, under which it sows.

    Raises:
        ValueError: In training, a batch's channel is a single value, of which there is no variance.
    """

    running_mean: torch.Tensor
    running_var: torch.Tensor

    def __init__(self, config: ImageNormConfig, channels: int, *, name: str):
        super().__init__()
        self.config, self.name = config, name
        self.weight = nn.Parameter(torch.ones(channels)) if config.is_learned else None
        self.bias = nn.Parameter(torch.zeros(channels)) if config.is_learned else None
        if config.has_statistics:
            self.register_buffer("running_mean", torch.zeros(channels))
            self.register_buffer("running_var", torch.ones(channels))
        if config.kind == "switchable":
            self.mean_logits = nn.Parameter(torch.zeros(NUM_MIXED))
            self.variance_logits = nn.Parameter(torch.zeros(NUM_MIXED))

    def forward(self, x_BHWC: torch.Tensor, context: Context) -> torch.Tensor:
        if self.weight is None or self.bias is None:
            return x_BHWC
        wide = x_BHWC.to(torch.promote_types(x_BHWC.dtype, torch.float32))
        weight, bias = self.weight.to(wide.dtype), self.bias.to(wide.dtype)
        match self.config.kind:
            case "batch":
                y = self._batch_norm(wide, weight, bias, context)
            case "switchable":
                mean, variance = (m[:, None, None] for m in self._mixed_moments(wide, context))
                y = (wide - mean) * torch.rsqrt(variance + self.config.epsilon) * weight + bias
            case kind:
                groups = {"layer": 1, "group": self.config.num_groups, "instance": len(weight)}
                y_BCHW = F.group_norm(
                    wide.permute(0, 3, 1, 2), groups[kind], weight, bias, self.config.epsilon
                )
                y = y_BCHW.permute(0, 2, 3, 1)
        return y.to(x_BHWC.dtype)

    def _batch_norm(
        self, x_BHWC: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, context: Context
    ) -> torch.Tensor:
        if context.train:
            require_several(tuple(x_BHWC.shape))
        # PyTorch writes the new statistics over those that it is given.
        mean, variance = (
            statistic.to(x_BHWC.dtype, copy=True)
            for statistic in (self.running_mean, self.running_var)
        )
        y_BCHW = F.batch_norm(
            x_BHWC.permute(0, 3, 1, 2),
            mean,
            variance,
            weight,
            bias,
            training=context.train,
            momentum=self.config.momentum,
            eps=self.config.epsilon,
        )
        if context.train:
            context.sown.statistics[f"{self.name}.running_mean"] = mean
            context.sown.statistics[f"{self.name}.running_var"] = variance
        return y_BCHW.permute(0, 2, 3, 1)

    def _mixed_moments(self, x_BHWC: torch.Tensor, context: Context) -> _Moments:
        variance_BC, mean_BC = torch.var_mean(x_BHWC, dim=(1, 2), correction=0)
        each = _Moments(mean_BC, variance_BC)
        found = (
            self._moments_of_batch(each, x_BHWC, context),
            _of_groups(each, 1),
            _of_groups(each, self.config.num_groups),
            each,
        )
        of_means = torch.softmax(self.mean_logits.to(x_BHWC.dtype), dim=0)
        of_variances = torch.softmax(self.variance_logits.to(x_BHWC.dtype), dim=0)
        return _Moments(
            _weighted(of_means, [m.mean for m in found]),
            _weighted(of_variances, [m.variance for m in found]),
        )

    def _moments_of_batch(self, each: _Moments, x_BHWC: torch.Tensor, context: Context) -> _Moments:
        """Returns those of the batch, and sows what they make the running ones; or the latter."""
        running = _Moments(
            self.running_mean[None].to(x_BHWC.dtype), self.running_var[None].to(x_BHWC.dtype)
        )
        if not context.train:
            return running
        count = require_several(tuple(x_BHWC.shape))
        batch = _pooled(each, dim=0)
        # As in PyTorch, what is tracked is the unbiased estimate of the variance.
        unbiased = batch.variance * (count / (count - 1))
        for name, old, new in (
            ("running_mean", running.mean, batch.mean),
            ("running_var", running.variance, unbiased),
        ):
            told = torch.lerp(old, new.detach(), self.config.momentum)
            context.sown.statistics[f"{self.name}.{name}"] = told[0]
        return batch


def _of_groups(each: _Moments, num_groups: int) -> _Moments:
    """Returns the moments of groups of neighbouring channels, once for each channel."""
    batch, channels = each.mean.shape
    shape = (batch, num_groups, channels // num_groups)
    pooled = _pooled(_Moments(each.mean.reshape(shape), each.variance.reshape(shape)), dim=2)
    mean, variance = (m.expand(shape).reshape(batch, channels) for m in pooled)
    return _Moments(mean, variance)


def _pooled(each: _Moments, dim: int) -> _Moments:
    """Returns the moments of what several sets of equal size hold together."""
    mean = each.mean.mean(dim=dim, keepdim=True)
    spread = (each.mean - mean).square()
    return _Moments(mean, (each.variance + spread).mean(dim=dim, keepdim=True))


def _weighted(shares: torch.Tensor, found: Sequence[torch.Tensor]) -> torch.Tensor:
    weighted = [share * value for share, value in zip(shares, found, strict=True)]
    return functools.reduce(torch.add, weighted)
