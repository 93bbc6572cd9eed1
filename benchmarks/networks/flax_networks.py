"""The presets' networks as one would write them with flax.nnx alone.

`torch_networks.py` is the twin. Names of layers are those of our weights, so that both
start from the same.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise

import jax
import jax.numpy as jnp
from flax import nnx

from benchmarks.networks.cases import BYTES, CNN, DIGITS, MLP

_EPSILON = 1e-6
_ROPE_BASE = 10000.0


class Attention(nnx.Module):
    """Multi-head self-attention; with rotary positions it is causal."""

    def __init__(self, width: int, num_heads: int, *, rotary: bool, rngs: nnx.Rngs):
        self.num_heads, self.rotary = num_heads, rotary
        self.query = nnx.Linear(width, width, use_bias=not rotary, rngs=rngs)
        self.key = nnx.Linear(width, width, use_bias=not rotary, rngs=rngs)
        self.value = nnx.Linear(width, width, use_bias=not rotary, rngs=rngs)
        self.out = nnx.Linear(width, width, use_bias=not rotary, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        heads = (*x.shape[:2], self.num_heads, -1)
        q, k, v = (layer(x).reshape(heads) for layer in (self.query, self.key, self.value))
        if self.rotary:
            q, k = _turned(q), _turned(k)
        mixed = jax.nn.dot_product_attention(q, k, v, is_causal=self.rotary)
        return self.out(mixed.reshape(x.shape))


def _turned(x: jax.Array) -> jax.Array:
    seq_len, head_dim = x.shape[1], x.shape[3]
    frequencies = _ROPE_BASE ** (-jnp.arange(0, head_dim, 2) / head_dim)
    turns = (jnp.arange(seq_len)[:, None] * frequencies)[:, None]
    cos, sin = jnp.cos(turns), jnp.sin(turns)
    first, second = jnp.split(x, 2, axis=-1)
    return jnp.concatenate((first * cos - second * sin, second * cos + first * sin), axis=-1)


class FeedForward(nnx.Module):
    """Two linear layers around an exact GELU."""

    def __init__(self, width: int, hidden: int, rngs: nnx.Rngs):
        self.fc1 = nnx.Linear(width, hidden, rngs=rngs)
        self.fc2 = nnx.Linear(hidden, width, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.fc2(jax.nn.gelu(self.fc1(x), approximate=False))


class GatedFeedForward(nnx.Module):
    """SwiGLU."""

    def __init__(self, width: int, hidden: int, rngs: nnx.Rngs):
        self.fc1 = nnx.Linear(width, hidden, use_bias=False, rngs=rngs)
        self.gate = nnx.Linear(width, hidden, use_bias=False, rngs=rngs)
        self.fc2 = nnx.Linear(hidden, width, use_bias=False, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.fc2(self.fc1(x) * jax.nn.silu(self.gate(x)))


class Block(nnx.Module):
    """A pre-norm transformer block."""

    def __init__(
        self,
        norm: Callable[[], Callable[[jax.Array], jax.Array]],
        mixer: Attention,
        feed_forward: FeedForward | GatedFeedForward,
    ):
        self.mixer_norm, self.mixer = norm(), mixer
        self.feed_forward_norm, self.feed_forward = norm(), feed_forward

    def __call__(self, x: jax.Array) -> jax.Array:
        x = x + self.mixer(self.mixer_norm(x))
        return x + self.feed_forward(self.feed_forward_norm(x))


class Embedding(nnx.Module):
    """A linear layer over what is read."""

    def __init__(self, inputs: int, width: int, rngs: nnx.Rngs):
        self.projection = nnx.Linear(inputs, width, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.projection(x)


class Positions(nnx.Module):
    """A learned vector for each token."""

    def __init__(self, tokens: int, width: int):
        self.embedding = nnx.Param(jnp.zeros((tokens, width)))

    def __call__(self, x: jax.Array) -> jax.Array:
        return x + self.embedding[...]


class VisionTransformer(nnx.Module):
    """Images `[batch, 8, 8, 1]` to logits `[batch, 10]`."""

    def __init__(self, width: int = 64, num_heads: int = 4, num_blocks: int = 3):
        rngs = nnx.Rngs(0)
        self.embedding, self.positions = Embedding(4, width, rngs), Positions(16, width)
        self.blocks = nnx.List(
            Block(
                lambda: nnx.LayerNorm(width, epsilon=_EPSILON, rngs=rngs),
                Attention(width, num_heads, rotary=False, rngs=rngs),
                FeedForward(width, 2 * width, rngs),
            )
            for _ in range(num_blocks)
        )
        self.norm = nnx.LayerNorm(width, epsilon=_EPSILON, rngs=rngs)
        self.head = nnx.Linear(width, 10, rngs=rngs)

    def __call__(self, images: jax.Array) -> jax.Array:
        grid = images.reshape(-1, 4, 2, 4, 2).transpose(0, 1, 3, 2, 4)
        x = self.positions(self.embedding(grid.reshape(-1, 16, 4)))
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x).mean(axis=1))


class Perceptron(nnx.Module):
    """Images `[batch, 28, 28, 1]` to logits `[batch, 10]`."""

    def __init__(self, sizes: Sequence[int] = (512, 256, 128)):
        rngs = nnx.Rngs(0)
        self.embedding = Embedding(28 * 28, sizes[0], rngs)
        self.projections = nnx.List(nnx.Linear(*pair, rngs=rngs) for pair in pairwise(sizes))
        self.head = nnx.Linear(sizes[-1], 10, rngs=rngs)

    def __call__(self, images: jax.Array) -> jax.Array:
        x = jax.nn.relu(self.embedding(images.reshape(len(images), -1)))
        for layer in self.projections:
            x = jax.nn.relu(layer(x))
        return self.head(x)


class ConvBranch(nnx.Module):
    """Two convolutions, each of a normalised and rectified input."""

    def __init__(self, inputs: int, width: int, stride: int, rngs: nnx.Rngs):
        self.norms = nnx.List((_batch_norm(inputs, rngs), _batch_norm(width, rngs)))
        self.convs = nnx.List(
            (_conv(inputs, width, 3, stride, rngs), _conv(width, width, 3, 1, rngs))
        )

    def __call__(self, x: jax.Array) -> jax.Array:
        for norm, conv in zip(self.norms, self.convs, strict=True):
            x = conv(jax.nn.relu(norm(x)))
        return x


class ResidualBlock(nnx.Module):
    """Adds two convolutions to images, which another one makes as small."""

    def __init__(self, inputs: int, width: int, stride: int, rngs: nnx.Rngs):
        self.conv = ConvBranch(inputs, width, stride, rngs)
        changes = stride > 1 or inputs != width
        self.shortcut = _conv(inputs, width, 1, stride, rngs) if changes else None

    def __call__(self, x: jax.Array) -> jax.Array:
        kept = x if self.shortcut is None else self.shortcut(x)
        return kept + self.conv(x)


def _batch_norm(width: int, rngs: nnx.Rngs) -> nnx.BatchNorm:
    return nnx.BatchNorm(width, use_running_average=False, momentum=0.9, rngs=rngs)


def _conv(inputs: int, outputs: int, size: int, stride: int, rngs: nnx.Rngs) -> nnx.Conv:
    # As in PyTorch: "SAME" pads strided images on one side only.
    padding = [(size // 2, size // 2)] * 2
    sizes, strides = (size, size), (stride, stride)
    return nnx.Conv(inputs, outputs, sizes, strides, padding=padding, use_bias=False, rngs=rngs)


class ConvNet(nnx.Module):
    """Images `[batch, 28, 28, 1]` to logits `[batch, 10]`."""

    def __init__(self) -> None:
        rngs = nnx.Rngs(0)
        self.stem = _conv(1, 16, 3, 1, rngs)
        self.stages = nnx.List(
            (
                nnx.List((ResidualBlock(16, 32, 2, rngs),)),
                nnx.List((ResidualBlock(32, 64, 2, rngs), ResidualBlock(64, 64, 1, rngs))),
            )
        )
        self.norm = _batch_norm(64, rngs)
        self.head = nnx.Linear(64, 10, rngs=rngs)

    def __call__(self, images: jax.Array) -> jax.Array:
        x = self.stem(images)
        for stage in self.stages:
            for block in stage:
                x = block(x)
        return self.head(jax.nn.relu(self.norm(x)).mean(axis=(1, 2)))


class ByteTransformer(nnx.Module):
    """Bytes `[batch, seq_len]` to logits of the next ones, `[batch, seq_len, 256]`."""

    def __init__(self, width: int = 128, num_heads: int = 4, num_blocks: int = 4):
        rngs = nnx.Rngs(0)
        self.embedding = nnx.Embed(256, width, rngs=rngs)
        self.blocks = nnx.List(
            Block(
                lambda: nnx.RMSNorm(width, epsilon=_EPSILON, rngs=rngs),
                Attention(width, num_heads, rotary=True, rngs=rngs),
                GatedFeedForward(width, 344, rngs),
            )
            for _ in range(num_blocks)
        )
        self.norm = nnx.RMSNorm(width, epsilon=_EPSILON, rngs=rngs)
        self.head = nnx.Linear(width, 256, use_bias=False, rngs=rngs)

    def __call__(self, tokens: jax.Array) -> jax.Array:
        x = self.embedding(tokens)
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


NETWORKS: dict[str, Callable[[], nnx.Module]] = {
    DIGITS: VisionTransformer,
    MLP: Perceptron,
    CNN: ConvNet,
    BYTES: ByteTransformer,
}
