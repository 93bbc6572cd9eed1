"""The networks as one would write them with torch.nn and torch.optim alone.

Names of layers are those of our weights, so that both start from the same.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from benchmarks.networks import cases

_EPSILON = 1e-6


class Attention(nn.Module):
    """Multi-head self-attention."""

    def __init__(self) -> None:
        super().__init__()
        width = cases.WIDTH
        self.query, self.key = nn.Linear(width, width), nn.Linear(width, width)
        self.value, self.out = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        heads = (*x.shape[:2], cases.HEADS, -1)
        q, k, v = (
            layer(x).view(heads).transpose(1, 2) for layer in (self.query, self.key, self.value)
        )
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2)
        return self.out(mixed.reshape(x.shape))


class FeedForward(nn.Module):
    """Two linear layers around an exact GELU."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(cases.WIDTH, cases.RATIO * cases.WIDTH)
        self.fc2 = nn.Linear(cases.RATIO * cases.WIDTH, cases.WIDTH)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class Block(nn.Module):
    """A pre-norm transformer block."""

    def __init__(self) -> None:
        super().__init__()
        self.mixer_norm = nn.LayerNorm(cases.WIDTH, eps=_EPSILON)
        self.mixer = Attention()
        self.feed_forward_norm = nn.LayerNorm(cases.WIDTH, eps=_EPSILON)
        self.feed_forward = FeedForward()

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

    def __init__(self, tokens: int):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(tokens, cases.WIDTH))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.weight


class Transformer(nn.Module):
    """Images `[batch, height, width, 1]` to logits."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = Embedding(cases.PATCH_SIZE**2, cases.WIDTH)
        self.positions = Positions((cases.IMAGE_SIZE // cases.PATCH_SIZE) ** 2)
        self.blocks = nn.ModuleList(Block() for _ in range(cases.BLOCKS))
        self.norm = nn.LayerNorm(cases.WIDTH, eps=_EPSILON)
        self.head = nn.Linear(cases.WIDTH, cases.NUM_CLASSES)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        side, size = cases.IMAGE_SIZE // cases.PATCH_SIZE, cases.PATCH_SIZE
        grid = images.view(-1, side, size, side, size).permute(0, 1, 3, 2, 4)
        x = self.positions(self.embedding(grid.reshape(-1, side**2, size**2)))
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x).mean(dim=1))


class Perceptron(nn.Module):
    """Images `[batch, height, width, 1]` to logits."""

    def __init__(self) -> None:
        super().__init__()
        first, *others = cases.HIDDEN_SIZES
        self.embedding = Embedding(cases.IMAGE_SIZE**2, first)
        self.projections = nn.ModuleList(
            nn.Linear(*sizes) for sizes in zip(cases.HIDDEN_SIZES, others, strict=False)
        )
        self.head = nn.Linear(cases.HIDDEN_SIZES[-1], cases.NUM_CLASSES)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        x = F.relu(self.embedding(images.flatten(1)))
        for layer in self.projections:
            x = F.relu(layer(x))
        return self.head(x)


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    cases.TRANSFORMER: Transformer,
    cases.PERCEPTRON: Perceptron,
}


def trainer(module: nn.Module) -> Callable[[Any, Any], torch.Tensor]:
    """Returns a function that trains a module by one batch, and returns the loss before."""
    params = list(module.parameters())
    groups = [
        {"params": [param for param in params if param.ndim > 1]},
        {"params": [param for param in params if param.ndim <= 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(
        groups,
        lr=cases.LEARNING_RATE,
        betas=(0.9, cases.BETA2),
        weight_decay=cases.WEIGHT_DECAY,
        fused=True,
    )

    def run(images: Any, labels: Any) -> torch.Tensor:
        optimizer.zero_grad()
        logits = module(torch.from_numpy(images))
        targets = torch.from_numpy(labels).long()
        loss = F.cross_entropy(logits, targets, label_smoothing=cases.LABEL_SMOOTHING)
        loss.backward()
        optimizer.step()
        return loss.detach()

    return run
