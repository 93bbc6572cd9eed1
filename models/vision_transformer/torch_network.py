"""The vision transformer in PyTorch; `flax_network.py` is its twin, line for line.

Shape suffixes:
  B = batch, I = image height and width, C = channels, T = tokens (seq_len), P = patch_dim,
  D = embed_dim, N = num_heads, H = head_dim, K = num_classes
"""

import torch
import torch.nn.functional as F
from torch import nn

from kernels.attention.torch_op import attention
from models.context import Context
from models.vision_transformer.config import LAYER_NORM_EPSILON, VisionTransformerConfig


def patchify(images_BIIC: torch.Tensor, patch_size: int) -> torch.Tensor:
    """Cuts images into their patches, row by row: `[batch, seq_len, patch_dim]`."""
    batch, height, width, channels = images_BIIC.shape
    rows, columns = height // patch_size, width // patch_size
    grid = images_BIIC.reshape(batch, rows, patch_size, columns, patch_size, channels)
    return grid.permute(0, 1, 3, 2, 4, 5).reshape(batch, rows * columns, patch_size**2 * channels)


class Attention(nn.Module):
    """Multi-head self-attention, `[batch, seq_len, embed_dim]` to the same, on our own kernel."""

    def __init__(self, config: VisionTransformerConfig):
        super().__init__()
        self.num_heads = config.num_heads
        self.qkv = nn.Linear(config.embed_dim, 3 * config.embed_dim)
        self.proj = nn.Linear(config.embed_dim, config.embed_dim)

    def forward(self, x_BTD: torch.Tensor) -> torch.Tensor:
        batch, seq_len, embed_dim = x_BTD.shape
        qkv_BT3NH = self.qkv(x_BTD).reshape(
            batch, seq_len, 3, self.num_heads, embed_dim // self.num_heads
        )
        q_BTNH, k_BTNH, v_BTNH = qkv_BT3NH.unbind(dim=2)
        y_BTNH = attention(q_BTNH, k_BTNH, v_BTNH)
        return self.proj(y_BTNH.reshape(batch, seq_len, embed_dim))


class Mlp(nn.Module):
    """Two linear layers around an exact (erf) GELU, `[..., embed_dim]` to the same."""

    def __init__(self, config: VisionTransformerConfig):
        super().__init__()
        self.fc1 = nn.Linear(config.embed_dim, config.mlp_dim)
        self.fc2 = nn.Linear(config.mlp_dim, config.embed_dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc2(F.gelu(self.fc1(x), approximate="none"))


class Block(nn.Module):
    """One pre-norm transformer layer, `[batch, seq_len, embed_dim]` to the same."""

    def __init__(self, config: VisionTransformerConfig):
        super().__init__()
        self.norm1 = nn.LayerNorm(config.embed_dim, eps=LAYER_NORM_EPSILON)
        self.attn = Attention(config)
        self.norm2 = nn.LayerNorm(config.embed_dim, eps=LAYER_NORM_EPSILON)
        self.mlp = Mlp(config)

    def forward(self, x_BTD: torch.Tensor) -> torch.Tensor:
        x_BTD = x_BTD + self.attn(self.norm1(x_BTD))
        return x_BTD + self.mlp(self.norm2(x_BTD))


class VisionTransformer(nn.Module):
    """Images `[batch, height, width, channels]` to logits `[batch, num_classes]`.

    Computes in the dtype of its weights, which is the dtype the images must have.
    """

    def __init__(self, config: VisionTransformerConfig):
        super().__init__()
        self.patch_size = config.patch_size
        self.patch_embed = nn.Linear(config.patch_dim, config.embed_dim)
        self.pos_embed = nn.Parameter(torch.zeros(config.seq_len, config.embed_dim))
        self.blocks = nn.ModuleList([Block(config) for _ in range(config.num_layers)])
        self.norm = nn.LayerNorm(config.embed_dim, eps=LAYER_NORM_EPSILON)
        self.head = nn.Linear(config.embed_dim, config.num_classes)

    def forward(self, images_BIIC: torch.Tensor, context: Context | None = None) -> torch.Tensor:
        patches_BTP = patchify(images_BIIC, self.patch_size)
        x_BTD = self.patch_embed(patches_BTP) + self.pos_embed
        for block in self.blocks:
            x_BTD = block(x_BTD)
        pooled_BD = self.norm(x_BTD).mean(dim=1)
        logits_BK = self.head(pooled_BD)
        return logits_BK
