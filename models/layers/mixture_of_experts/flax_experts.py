"""Many feed-forwards, each over tokens of its own, in JAX; `torch_experts.py` is its twin.

An expert's tokens, as many as there are, fill whole blocks of rows, the last with zeros. Then one
product of matrices a block does, with the weights of the block's expert. There and back, on two
cores, that takes about twice as long as one product of as many rows with one weight;
`jax.lax.ragged_dot`, and every expert on every token, take as much longer as there are experts.

Shape suffixes:
  N = tokens of a batch, D = width, E = experts, G = blocks of rows, S = rows of a block
"""

import dataclasses

import jax
import jax.numpy as jnp
from flax import nnx

from kernels.portable import is_portable
from models.context import Context
from models.layers.activation.flax_layer import ACTIVATIONS
from models.layers.dropout.flax_layer import dropout
from models.layers.feed_forward.config import FeedForwardConfig

# Below, products of matrices have too few rows to be fast.
_MIN_BLOCK = 8


class Linears(nnx.Module):
    """Rows `[blocks, rows, inputs]` to `[blocks, rows, outputs]`, each block by its own expert."""

    def __init__(self, experts: int, inputs: int, outputs: int, *, bias: bool):
        self.weight = nnx.Param(jnp.zeros((experts, outputs, inputs)))
        self.bias = nnx.Param(jnp.zeros((experts, outputs))) if bias else None

    def __call__(self, x: jax.Array, expert_G: jax.Array) -> jax.Array:
        y = jnp.einsum("gsi,goi->gso", x, self.weight[...].astype(x.dtype)[expert_G])
        return y if self.bias is None else y + self.bias[...].astype(x.dtype)[expert_G][:, None]

    def of_all(self, x: jax.Array) -> jax.Array:
        """Rows `[rows, inputs]`, or `[experts, rows, inputs]`, to `[experts, rows, outputs]`."""
        y = x @ self.weight[...].astype(x.dtype).swapaxes(1, 2)
        return y if self.bias is None else y + self.bias[...].astype(x.dtype)[:, None]


class Experts(nnx.Module):
    """The feed-forwards of a mixture; their weights are one array each, `[experts, ...]`."""

    def __init__(self, config: FeedForwardConfig, experts: int, width: int, *, name: str):
        self.activation, self.dropout_rate, self.name = config.activation, config.dropout_rate, name
        hidden = config.hidden(width)
        self.fc1 = Linears(experts, width, hidden, bias=config.bias)
        self.gate = (
            Linears(experts, width, hidden, bias=config.bias) if config.kind == "gated" else None
        )
        self.fc2 = Linears(experts, hidden, width, bias=config.bias)

    def __call__(
        self,
        x_ND: jax.Array,
        gates_NE: jax.Array,
        kept_NE: jax.Array,
        seeds_N: jax.Array | None,
        most: int,
        context: Context,
    ) -> jax.Array:
        """Adds up what experts make of each token.

        Args:
            x_ND: Tokens.
            gates_NE: By what each expert's output is multiplied.
            kept_NE: Which experts a token goes through.
            seeds_N: From which a token's random numbers are made; None if none are.
            most: As many are kept at most.
            context: Of the pass.
        """
        if is_portable():
            return self._all_of_all(x_ND, jnp.where(kept_NE, gates_NE, 0.0))
        token_GS, expert_G = _blocks(kept_NE, most)
        rows = jnp.pad(x_ND, ((0, 1), (0, 0)))[token_GS]
        hidden = self._dropped(self._hidden(rows, expert_G), token_GS, expert_G, seeds_N, context)
        gates_GS = jnp.pad(gates_NE, ((0, 1), (0, 0)))[token_GS, expert_G[:, None]]
        y = self.fc2(hidden, expert_G) * gates_GS[..., None].astype(x_ND.dtype)
        return (
            jnp.zeros_like(x_ND)
            .at[token_GS.reshape(-1)]
            .add(y.reshape(-1, y.shape[-1]), mode="drop")
        )

    def _all_of_all(self, x_ND: jax.Array, gates_NE: jax.Array) -> jax.Array:
        """As a call where nothing is dropped, by each expert on each token.

        How blocks are laid out depends on the size of the batch, which a program does not know.
        """
        activate = ACTIVATIONS[self.activation]
        hidden_ENF = self.fc1.of_all(x_ND)
        if self.gate is None:
            hidden_ENF = activate(hidden_ENF)
        else:
            hidden_ENF = hidden_ENF * activate(self.gate.of_all(x_ND))
        y_END = self.fc2.of_all(hidden_ENF)
        return (y_END * gates_NE.T[..., None].astype(x_ND.dtype)).sum(axis=0)

    def _hidden(self, rows: jax.Array, expert_G: jax.Array) -> jax.Array:
        activate = ACTIVATIONS[self.activation]
        hidden = self.fc1(rows, expert_G)
        if self.gate is None:
            return activate(hidden)
        return hidden * activate(self.gate(rows, expert_G))

    def _dropped(
        self,
        hidden: jax.Array,
        token_GS: jax.Array,
        expert_G: jax.Array,
        seeds_N: jax.Array | None,
        context: Context,
    ) -> jax.Array:
        if seeds_N is None:
            return hidden
        seeds_GS = jnp.pad(seeds_N, (0, 1))[token_GS] + (expert_G[:, None].astype("uint32") << 24)
        of_rows = dataclasses.replace(context, seeds=seeds_GS.reshape(-1))
        flat = hidden.reshape(-1, hidden.shape[-1])
        return dropout(flat, self.dropout_rate, of_rows, f"{self.name}.hidden").reshape(
            hidden.shape
        )


def _blocks(kept_NE: jax.Array, most: int) -> tuple[jax.Array, jax.Array]:
    """Lays out the tokens of each expert in blocks of rows of its own.

    Returns:
        `token_GS`, which token is in a row, N if none is; and `expert_G`, whose the block is.
    """
    tokens, experts = kept_NE.shape
    # Expected are 4 blocks an expert, of which the last is half full.
    size = max(_MIN_BLOCK, 1 << (max(most // (4 * experts), 1) - 1).bit_length())
    count = most // size + min(experts, most)
    place_EN = jnp.cumsum(kept_NE.T, axis=1)
    ends_E = jnp.cumsum(-(-place_EN[:, -1] // size))
    starts_E = jnp.concatenate([jnp.zeros(1, ends_E.dtype), ends_E[:-1]])
    row_EN = jnp.where(kept_NE.T, starts_E[:, None] * size + place_EN - 1, count * size)
    token_EN = jnp.broadcast_to(jnp.arange(tokens), (experts, tokens))
    token_R = jnp.full(count * size, tokens).at[row_EN].set(token_EN, mode="drop")
    expert_G = jnp.searchsorted(ends_E, jnp.arange(count), side="right")
    return token_R.reshape(count, size), jnp.minimum(expert_G, experts - 1)
