"""The presets' networks as one would write them with torch.nn alone.

`flax_networks.py` is the twin. Names of layers are those of our weights, so that both
start from the same.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import nn

from benchmarks.networks.cases import BYTES, CNN, DIGITS, MLP

_EPSILON = 1e-6
_ROPE_BASE = 10000.0


class Attention(nn.Module):
    """Multi-head self-attention; with rotary positions it is causal."""

    def __init__(self, width: int, num_heads: int, *, seq_len: int, rotary: bool):
        super().__init__()
        self.num_heads, self.rotary = num_heads, rotary
        bias = not rotary
        self.query = nn.Linear(width, width, bias=bias)
        self.key = nn.Linear(width, width, bias=bias)
        self.value = nn.Linear(width, width, bias=bias)
        self.out = nn.Linear(width, width, bias=bias)
        if rotary:
            turns = _turns(seq_len, width // num_heads)
            self.register_buffer("cos", torch.cos(turns), persistent=False)
            self.register_buffer("sin", torch.sin(turns), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        heads = (*x.shape[:2], self.num_heads, -1)
        q, k, v = (
            layer(x).view(heads).transpose(1, 2) for layer in (self.query, self.key, self.value)
        )
        if self.rotary:
            cos, sin = self.cos[: x.shape[1]], self.sin[: x.shape[1]]
            q, k = _turned(q, cos, sin), _turned(k, cos, sin)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=self.rotary)
        return self.out(mixed.transpose(1, 2).reshape(x.shape))


def _turns(seq_len: int, head_dim: int) -> torch.Tensor:
    frequencies = _ROPE_BASE ** (-torch.arange(0, head_dim, 2) / head_dim)
    return torch.arange(seq_len)[:, None] * frequencies


def _turned(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    first, second = x.chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)


class FeedForward(nn.Module):
    """Two linear layers around an exact GELU."""

    def __init__(self, width: int, hidden: int):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, hidden), nn.Linear(hidden, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class GatedFeedForward(nn.Module):
    """SwiGLU."""

    def __init__(self, width: int, hidden: int):
        super().__init__()
        self.fc1 = nn.Linear(width, hidden, bias=False)
        self.gate = nn.Linear(width, hidden, bias=False)
        self.fc2 = nn.Linear(hidden, width, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc2(self.fc1(x) * F.silu(self.gate(x)))


class Block(nn.Module):
    """A pre-norm transformer block."""

    def __init__(self, norm: Callable[[], nn.Module], mixer: nn.Module, feed_forward: nn.Module):
        super().__init__()
        self.mixer_norm, self.mixer = norm(), mixer
        self.feed_forward_norm, self.feed_forward = norm(), feed_forward

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.mixer(self.mixer_norm(x))
        return x + self.feed_forward(self.feed_forward_norm(x))


class Embedding(nn.Module):
    """A linear layer over what is read."""

    def __init__(self, inputs: int, width: int):
        super().__init__()
        self.projection = nn.Linear(inputs, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.projection(x)


class Positions(nn.Module):
    """A learned vector for each token."""

    def __init__(self, tokens: int, width: int):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(tokens, width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.weight


class VisionTransformer(nn.Module):
    """Images `[batch, 8, 8, 1]` to logits `[batch, 10]`."""

    def __init__(self, width: int = 64, num_heads: int = 4, num_blocks: int = 3):
        super().__init__()
        self.embedding, self.positions = Embedding(4, width), Positions(16, width)
        self.blocks = nn.ModuleList(
            Block(
                lambda: nn.LayerNorm(width, eps=_EPSILON),
                Attention(width, num_heads, seq_len=16, rotary=False),
                FeedForward(width, 2 * width),
            )
            for _ in range(num_blocks)
        )
        self.norm = nn.LayerNorm(width, eps=_EPSILON)
        self.head = nn.Linear(width, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        grid = images.view(-1, 4, 2, 4, 2).permute(0, 1, 3, 2, 4)
        x = self.positions(self.embedding(grid.reshape(-1, 16, 4)))
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x).mean(dim=1))


class Perceptron(nn.Module):
    """Images `[batch, 28, 28, 1]` to logits `[batch, 10]`."""

    def __init__(self, sizes: Sequence[int] = (512, 256, 128)):
        super().__init__()
        self.embedding = Embedding(28 * 28, sizes[0])
        self.projections = nn.ModuleList(nn.Linear(*pair) for pair in pairwise(sizes))
        self.head = nn.Linear(sizes[-1], 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        x = F.relu(self.embedding(images.flatten(1)))
        for layer in self.projections:
            x = F.relu(layer(x))
        return self.head(x)


class ConvBranch(nn.Module):
    """Two convolutions, each of a normalised and rectified input."""

    def __init__(self, inputs: int, width: int, stride: int):
        super().__init__()
        self.norms = nn.ModuleList((nn.BatchNorm2d(inputs), nn.BatchNorm2d(width)))
        self.convs = nn.ModuleList((_conv(inputs, width, 3, stride), _conv(width, width, 3)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for norm, conv in zip(self.norms, self.convs, strict=True):
            x = conv(F.relu(norm(x)))
        return x


class ResidualBlock(nn.Module):
    """Adds two convolutions to images, which another one makes as small."""

    def __init__(self, inputs: int, width: int, stride: int):
        super().__init__()
        self.conv = ConvBranch(inputs, width, stride)
        changes = stride > 1 or inputs != width
        self.shortcut = _conv(inputs, width, 1, stride) if changes else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.shortcut(x) + self.conv(x)


def _conv(inputs: int, outputs: int, size: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, size, stride, padding=size // 2, bias=False)


class ConvNet(nn.Module):
    """Images `[batch, 28, 28, 1]` to logits `[batch, 10]`."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = _conv(1, 16, 3)
        self.stages = nn.ModuleList(
            (
                nn.ModuleList((ResidualBlock(16, 32, 2),)),
                nn.ModuleList((ResidualBlock(32, 64, 2), ResidualBlock(64, 64, 1))),
            )
        )
        self.norm = nn.BatchNorm2d(64)
        self.head = nn.Linear(64, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        x = self.stem(images.permute(0, 3, 1, 2))
        for stage in self.stages:
            for block in stage:
                x = block(x)
        return self.head(F.relu(self.norm(x)).mean(dim=(2, 3)))


class ByteTransformer(nn.Module):
    """Bytes `[batch, seq_len]` to logits of the next ones, `[batch, seq_len, 256]`."""

    def __init__(self, width: int = 128, num_heads: int = 4, num_blocks: int = 4):
        super().__init__()
        self.embedding = nn.Embedding(256, width)
        self.blocks = nn.ModuleList(
            Block(
                lambda: nn.RMSNorm(width, eps=_EPSILON),
                Attention(width, num_heads, seq_len=512, rotary=True),
                GatedFeedForward(width, 344),
            )
            for _ in range(num_blocks)
        )
        self.norm = nn.RMSNorm(width, eps=_EPSILON)
        self.head = nn.Linear(width, 256, bias=False)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.embedding(tokens)
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    DIGITS: VisionTransformer,
    MLP: Perceptron,
    CNN: ConvNet,
    BYTES: ByteTransformer,
}
