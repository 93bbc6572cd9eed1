"""The convolutional network in Flax; `torch_network.py` is its twin, line for line.

Shape suffixes:
  B = batch, H = height, W = width, C = channels, K = num_classes
"""

import jax
import jax.numpy as jnp
from flax import nnx

from models.cnn.config import CnnConfig
from models.cnn.flax_block import Block
from models.cnn.plan import num_inputs
from models.context import Context
from models.layers.activation.flax_layer import ACTIVATIONS
from models.layers.checkpointing.flax_layer import checkpointed
from models.layers.convolution.flax_layer import Convolution
from models.layers.downsampling.flax_layer import blur_pool
from models.layers.dropout.flax_layer import dropout
from models.layers.fourier_features.coordinates import NUM_COORDINATES, pixel_coordinates
from models.layers.fourier_features.flax_layer import FourierFeatures
from models.layers.image_norm.flax_layer import ImageNorm
from models.layers.linear.flax_layer import Linear
from models.layers.reversible.flax_layer import reversible


class Cnn(nnx.Module):
    """Images `[batch, height, width, channels]` to logits `[batch, num_classes]`.

    Computes in `context.dtype`, or else in the dtype of its weights. Float32 or more, as its
    weights have, are Fourier features, norms, the halves of reversible stages, routers of experts,
    and all from the pooled image on.
    """

    def __init__(self, config: CnnConfig):
        self.config, self.plan, stem = config, config.stages, config.stem
        values, coordinates = config.fourier_values, config.fourier_coordinates
        self.fourier_values = (
            FourierFeatures(values, config.image.num_channels) if values.enabled else None
        )
        self.fourier_coordinates = (
            FourierFeatures(coordinates, NUM_COORDINATES) if coordinates.enabled else None
        )
        self.stem = Convolution(
            num_inputs(config),
            stem.width,
            stem.kernel_size,
            stride=stem.stride,
            bias=not config.norm.is_learned,
        )
        self.stages = nnx.List(
            nnx.List(Block(config, plan) for plan in (*stage.blocks, *stage.reversible))
            for stage in self.plan
        )
        self.norm = ImageNorm(config.norm, config.widths[-1], name="norm")
        self.head = Linear(config.widths[-1], config.num_classes)

    def __call__(self, images_BHWC: jax.Array, context: Context | None = None) -> jax.Array:
        context = context or Context()
        dtype = context.dtype or self.head.kernel.dtype
        x_BHWC = self._features(images_BHWC).astype(dtype)
        x_BHWC = self._pooled_stem(self.stem(x_BHWC))
        context.sow_value("stem", x_BHWC)
        for index in range(len(self.stages)):
            x_BHWC = self._stage(index, x_BHWC, context)
        return self._head(x_BHWC, context)

    def _features(self, images_BHWC: jax.Array) -> jax.Array:
        """Returns what the stem is given of each pixel."""
        features = [images_BHWC]
        if self.fourier_values is not None:
            features = [self.fourier_values(images_BHWC)]
        if self.fourier_coordinates is not None:
            sides = images_BHWC.shape[1:3]
            places_HWC = jnp.asarray(pixel_coordinates(*sides), images_BHWC.dtype)
            of_places_HWC = self.fourier_coordinates(places_HWC)
            shape = (*images_BHWC.shape[:3], of_places_HWC.shape[-1])
            features.append(jnp.broadcast_to(of_places_HWC, shape))
        return jnp.concatenate(features, axis=-1)

    def _pooled_stem(self, x_BHWC: jax.Array) -> jax.Array:
        if self.config.stem.pool == "none":
            return x_BHWC
        blur = self.config.blur_filter_size
        stride = (1, 1) if blur else (2, 2)
        x_BHWC = nnx.max_pool(x_BHWC, (3, 3), stride, ((1, 1), (1, 1)))
        return blur_pool(x_BHWC, blur, 2) if blur else x_BHWC

    def _stage(self, index: int, x_BHWC: jax.Array, context: Context) -> jax.Array:
        plan, blocks = self.plan[index], self.stages[index]
        kept, branches = len(plan.blocks), []
        for number, block in enumerate(blocks):
            if number >= kept:
                branches += block.branches
                continue
            run = checkpointed if plan.is_checkpointed else _plainly
            x_BHWC = run(block, x_BHWC, context)
            context.sow_value(f"stages.{index}.{number}", x_BHWC)
        if branches:
            x_BHWC = reversible(branches, x_BHWC, context)
        context.sow_value(f"stages.{index}", x_BHWC)
        return x_BHWC

    def _head(self, x_BHWC: jax.Array, context: Context) -> jax.Array:
        config = self.config
        x_BHWC = ACTIVATIONS[config.block.activation](self.norm(x_BHWC, context))
        wide_BHWC = x_BHWC.astype(jnp.promote_types(x_BHWC.dtype, jnp.float32))
        pool = jnp.mean if config.head.pooling == "mean" else jnp.max
        pooled_BC = pool(wide_BHWC, axis=(1, 2))
        context.sow_value("pooled", pooled_BC)
        return self.head(dropout(pooled_BC, config.head.dropout_rate, context, "head"))


def _plainly(block: Block, x_BHWC: jax.Array, context: Context) -> jax.Array:
    return block(x_BHWC, context)
