"""The vision transformer in Flax; `torch_network.py` is its twin, line for line.

Shape suffixes:
  B = batch, I = image height and width, C = channels, T = tokens (seq_len), P = patch_dim,
  D = embed_dim, N = num_heads, H = head_dim, K = num_classes
"""

import jax
import jax.numpy as jnp
from flax import nnx

from kernels.attention.jax_op import attention
from models.context import Context
from models.vision_transformer.config import LAYER_NORM_EPSILON, VisionTransformerConfig


def patchify(images_BIIC: jax.Array, patch_size: int) -> jax.Array:
    """Cuts images into their patches, row by row: `[batch, seq_len, patch_dim]`."""
    batch, height, width, channels = images_BIIC.shape
    rows, columns = height // patch_size, width // patch_size
    grid = images_BIIC.reshape(batch, rows, patch_size, columns, patch_size, channels)
    return grid.transpose(0, 1, 3, 2, 4, 5).reshape(batch, rows * columns, patch_size**2 * channels)


class Attention(nnx.Module):
    """Multi-head self-attention, `[batch, seq_len, embed_dim]` to the same, on our own kernel."""

    def __init__(self, config: VisionTransformerConfig, *, rngs: nnx.Rngs):
        self.num_heads = config.num_heads
        self.qkv = nnx.Linear(config.embed_dim, 3 * config.embed_dim, rngs=rngs)
        self.proj = nnx.Linear(config.embed_dim, config.embed_dim, rngs=rngs)

    def __call__(self, x_BTD: jax.Array) -> jax.Array:
        batch, seq_len, embed_dim = x_BTD.shape
        qkv_BT3NH = self.qkv(x_BTD).reshape(
            batch, seq_len, 3, self.num_heads, embed_dim // self.num_heads
        )
        q_BTNH, k_BTNH, v_BTNH = (qkv_BT3NH[:, :, i] for i in range(3))
        y_BTNH = attention(q_BTNH, k_BTNH, v_BTNH)
        return self.proj(y_BTNH.reshape(batch, seq_len, embed_dim))


class Mlp(nnx.Module):
    """Two linear layers around an exact (erf) GELU, `[..., embed_dim]` to the same."""

    def __init__(self, config: VisionTransformerConfig, *, rngs: nnx.Rngs):
        self.fc1 = nnx.Linear(config.embed_dim, config.mlp_dim, rngs=rngs)
        self.fc2 = nnx.Linear(config.mlp_dim, config.embed_dim, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.fc2(jax.nn.gelu(self.fc1(x), approximate=False))


class Block(nnx.Module):
    """One pre-norm transformer layer, `[batch, seq_len, embed_dim]` to the same."""

    def __init__(self, config: VisionTransformerConfig, *, rngs: nnx.Rngs):
        self.norm1 = _layer_norm(config, rngs)
        self.attn = Attention(config, rngs=rngs)
        self.norm2 = _layer_norm(config, rngs)
        self.mlp = Mlp(config, rngs=rngs)

    def __call__(self, x_BTD: jax.Array) -> jax.Array:
        x_BTD = x_BTD + self.attn(self.norm1(x_BTD))
        return x_BTD + self.mlp(self.norm2(x_BTD))


class VisionTransformer(nnx.Module):
    """Images `[batch, height, width, channels]` to logits `[batch, num_classes]`.

    Computes in the dtype of its weights, which is the dtype the images must have.
    """

    def __init__(self, config: VisionTransformerConfig, *, rngs: nnx.Rngs):
        self.patch_size = config.patch_size
        self.patch_embed = nnx.Linear(config.patch_dim, config.embed_dim, rngs=rngs)
        self.pos_embed = nnx.Param(jnp.zeros((config.seq_len, config.embed_dim)))
        self.blocks = nnx.List([Block(config, rngs=rngs) for _ in range(config.num_layers)])
        self.norm = _layer_norm(config, rngs)
        self.head = nnx.Linear(config.embed_dim, config.num_classes, rngs=rngs)

    def __call__(self, images_BIIC: jax.Array, context: Context | None = None) -> jax.Array:
        patches_BTP = patchify(images_BIIC, self.patch_size)
        x_BTD = self.patch_embed(patches_BTP) + self.pos_embed[...]
        for block in self.blocks:
            x_BTD = block(x_BTD)
        pooled_BD = self.norm(x_BTD).mean(axis=1)
        logits_BK = self.head(pooled_BD)
        return logits_BK


def _layer_norm(config: VisionTransformerConfig, rngs: nnx.Rngs) -> nnx.LayerNorm:
    # The fast variance, E[x^2] - E[x]^2, cancels catastrophically where PyTorch's does not.
    return nnx.LayerNorm(
        config.embed_dim, epsilon=LAYER_NORM_EPSILON, use_fast_variance=False, rngs=rngs
    )
