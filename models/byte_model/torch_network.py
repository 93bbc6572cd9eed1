"""A language model over bytes, in PyTorch.

Shape suffixes:
  B = batch, T = seq_len, D = embed_dim, N = num_heads, H = head_dim, V = 256 byte values
"""

import torch
import torch.nn.functional as F
from torch import nn

from kernels.attention.rope import Rope
from kernels.attention.torch_op import attention
from models.byte_model.config import NUM_BYTES, ByteModelConfig

_EMBEDDING_STDDEV = 0.02


class ByteBlock(nn.Module):
    """One pre-norm transformer layer in which a byte sees itself and those before it."""

    def __init__(self, config: ByteModelConfig):
        super().__init__()
        self.num_heads = config.num_heads
        self.norm1 = nn.LayerNorm(config.embed_dim)
        self.qkv = nn.Linear(config.embed_dim, 3 * config.embed_dim)
        self.proj = nn.Linear(config.embed_dim, config.embed_dim)
        self.norm2 = nn.LayerNorm(config.embed_dim)
        self.fc1 = nn.Linear(config.embed_dim, config.mlp_dim)
        self.fc2 = nn.Linear(config.mlp_dim, config.embed_dim)

    def forward(self, x_BTD: torch.Tensor) -> torch.Tensor:
        batch, seq_len, embed_dim = x_BTD.shape
        heads = (batch, seq_len, 3, self.num_heads, embed_dim // self.num_heads)
        q_BTNH, k_BTNH, v_BTNH = self.qkv(self.norm1(x_BTD)).reshape(heads).unbind(dim=2)
        y_BTNH = attention(q_BTNH, k_BTNH, v_BTNH, causal=True, rope=Rope())
        x_BTD = x_BTD + self.proj(y_BTNH.reshape(batch, seq_len, embed_dim))
        return x_BTD + self.fc2(F.gelu(self.fc1(self.norm2(x_BTD))))


class ByteModel(nn.Module):
    """Bytes `[batch, seq_len]` int64 to the logits of the bytes after them `[batch, seq_len, 256]`.

    Positions are rotary, the output shares its matrix with the embedding.
    """

    def __init__(self, config: ByteModelConfig):
        super().__init__()
        self.embed = nn.Embedding(NUM_BYTES, config.embed_dim)
        self.blocks = nn.ModuleList([ByteBlock(config) for _ in range(config.num_layers)])
        self.norm = nn.LayerNorm(config.embed_dim)
        nn.init.normal_(self.embed.weight, std=_EMBEDDING_STDDEV)
        for block in self.blocks:
            nn.init.zeros_(block.proj.weight)
            nn.init.zeros_(block.fc2.weight)

    def forward(self, bytes_BT: torch.Tensor) -> torch.Tensor:
        x_BTD = self.embed(bytes_BT)
        for block in self.blocks:
            x_BTD = block(x_BTD)
        logits_BTV = F.linear(self.norm(x_BTD), self.embed.weight)
        return logits_BTV
