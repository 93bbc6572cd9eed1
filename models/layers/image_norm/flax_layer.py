"""Normalisations of images in Flax; `torch_layer.py` is its twin.

The mean and the variance of any set of an image's channels follow from those of each channel of
each example, by the law of total variance, so that pixels are gone through once for all kinds.

Shape suffixes:
  B = batch, H = height, W = width, C = channels

Reference: Ioffe and Szegedy, "Batch Normalization", https://arxiv.org/abs/1502.03167; Ba et al.,
"Layer Normalization", https://arxiv.org/abs/1607.06450; Ulyanov et al., "Instance Normalization",
https://arxiv.org/abs/1607.08022; Wu and He, "Group Normalization",
https://arxiv.org/abs/1803.08494; Luo et al., "Differentiable Learning-to-Normalize via Switchable
Normalization", https://arxiv.org/abs/1806.10779, of switchable ones.
"""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from models.context import Context
from models.layers.image_norm.config import ImageNormConfig
from models.layers.image_norm.count import require_several
from models.layers.image_norm.weights import NUM_MIXED


class _Moments(NamedTuple):
    """A mean and a variance, `[batch or 1, channels]` each."""

    mean: jax.Array
    variance: jax.Array


class ImageNorm(nnx.Module):
    """`[batch, height, width, channels]` to the same, computed in float32 or more.

    Returns the dtype of its input. In training it sows the new running statistics.

    Args:
        config: Which.
        channels: How many.
        name: Its canonical name, under which it sows.

    Raises:
        ValueError: In training, a batch's channel is a single value, of which there is no variance.
    """

    def __init__(self, config: ImageNormConfig, channels: int, *, name: str):
        self.config, self.name = config, name
        self.scale = nnx.Param(jnp.ones(channels)) if config.is_learned else None
        self.bias = nnx.Param(jnp.zeros(channels)) if config.is_learned else None
        if config.has_statistics:
            self.running_mean = nnx.BatchStat(jnp.zeros(channels))
            self.running_var = nnx.BatchStat(jnp.ones(channels))
        if config.kind == "switchable":
            self.mean_logits = nnx.Param(jnp.zeros(NUM_MIXED))
            self.variance_logits = nnx.Param(jnp.zeros(NUM_MIXED))

    def __call__(self, x_BHWC: jax.Array, context: Context) -> jax.Array:
        if self.scale is None or self.bias is None:
            return x_BHWC
        wide = x_BHWC.astype(jnp.promote_types(x_BHWC.dtype, jnp.float32))
        mean, variance = (m[:, None, None] for m in self._moments(wide, context))
        y = (wide - mean) * jax.lax.rsqrt(variance + self.config.epsilon)
        y = y * self.scale[...].astype(wide.dtype) + self.bias[...].astype(wide.dtype)
        return y.astype(x_BHWC.dtype)

    def _moments(self, x_BHWC: jax.Array, context: Context) -> _Moments:
        kind = self.config.kind
        if kind == "batch" and not context.train:
            return self._running(x_BHWC.dtype)
        mean = x_BHWC.mean(axis=(1, 2), keepdims=True)
        each = _Moments(mean[:, 0, 0], jnp.square(x_BHWC - mean).mean(axis=(1, 2)))
        match kind:
            case "batch":
                return self._of_batch(each, x_BHWC, context)
            case "layer":
                return _of_groups(each, 1)
            case "group":
                return _of_groups(each, self.config.num_groups)
            case "switchable":
                groups = self.config.num_groups
                return self._mixed(
                    self._of_batch(each, x_BHWC, context),
                    _of_groups(each, 1),
                    _of_groups(each, groups),
                    each,
                )
        return each

    def _running(self, dtype: jnp.dtype) -> _Moments:
        mean, variance = self.running_mean[...], self.running_var[...]
        return _Moments(mean[None].astype(dtype), variance[None].astype(dtype))

    def _of_batch(self, each: _Moments, x_BHWC: jax.Array, context: Context) -> _Moments:
        """Returns those of the batch, and sows what they make the running ones; or the latter."""
        running = self._running(x_BHWC.dtype)
        if not context.train:
            return running
        count = require_several(x_BHWC.shape)
        batch = _pooled(each, axis=0)
        # As in PyTorch, what is tracked is the unbiased estimate of the variance.
        unbiased = batch.variance * (count / (count - 1))
        for name, old, new in (
            ("running_mean", running.mean, batch.mean),
            ("running_var", running.variance, unbiased),
        ):
            told = old + self.config.momentum * (jax.lax.stop_gradient(new) - old)
            context.sown.statistics[f"{self.name}.{name}"] = told[0]
        return batch

    def _mixed(self, *found: _Moments) -> _Moments:
        of_means = jax.nn.softmax(self.mean_logits[...].astype(found[0].mean.dtype))
        of_variances = jax.nn.softmax(self.variance_logits[...].astype(found[0].mean.dtype))
        return _Moments(
            _weighted(of_means, [m.mean for m in found]),
            _weighted(of_variances, [m.variance for m in found]),
        )


def _of_groups(each: _Moments, num_groups: int) -> _Moments:
    """Returns the moments of groups of neighbouring channels, once for each channel."""
    batch, channels = each.mean.shape
    shape = (batch, num_groups, channels // num_groups)
    pooled = _pooled(_Moments(each.mean.reshape(shape), each.variance.reshape(shape)), axis=2)
    mean, variance = (jnp.broadcast_to(m, shape).reshape(batch, channels) for m in pooled)
    return _Moments(mean, variance)


def _pooled(each: _Moments, axis: int) -> _Moments:
    """Returns the moments of what several sets of equal size hold together."""
    mean = each.mean.mean(axis=axis, keepdims=True)
    spread = jnp.square(each.mean - mean)
    return _Moments(mean, (each.variance + spread).mean(axis=axis, keepdims=True))


def _weighted(shares: jax.Array, found: Sequence[jax.Array]) -> jax.Array:
    weighted = [share * value for share, value in zip(shares, found, strict=True)]
    return functools.reduce(jnp.add, weighted)
