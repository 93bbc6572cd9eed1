"""Estimates of the Hessian's diagonal, for Sophia in JAX; see `optim.jax.transformation`."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax


def sample_labels(logits: jax.Array, gumbel: jax.Array) -> jax.Array:
    """Draws a label for each example from the model's own distribution.

    Args:
      logits: `[..., classes]`.
      gumbel: Noise of the standard Gumbel distribution in the shape of `logits`, such as that of
        `jax.random.gumbel`.

    Returns:
      int32 `[...]`.
    """
    return jnp.argmax(jax.lax.stop_gradient(logits) + gumbel, axis=-1)


def gauss_newton_bartlett(grads: optax.Params, batch_size: jax.typing.ArrayLike) -> optax.Params:
    """Returns the estimate of the Gauss-Newton matrix's diagonal.

    Args:
      grads: Gradients of the mean cross-entropy to sampled labels, the mean over all devices.
      batch_size: Labels sampled, on all devices; may be traced.

    Returns:
      A tree like the gradients, of float32 at least: a square in float16 may be 0 or inf.

    Reference: Liu et al., "Sophia", Algorithm 2, https://arxiv.org/abs/2305.14342.
    """

    def estimate(grad: jax.Array) -> jax.Array:
        wide = grad.astype(jnp.promote_types(grad.dtype, jnp.float32))
        return batch_size * wide * wide

    return jax.tree.map(estimate, grads)


def hutchinson(
    loss: Callable[[optax.Params], jax.Array], params: optax.Params, key: jax.Array
) -> optax.Params:
    """Returns `x * (H @ x)`, whose mean is the diagonal of the loss's Hessian `H`.

    Where devices share a batch, average it over them.

    Args:
      loss: A scalar function that can be differentiated twice, forwards over backwards.
      params: Where.
      key: Of the standard normal `x`.

    Reference: Liu et al., "Sophia", Algorithm 1, https://arxiv.org/abs/2305.14342.
    """
    leaves, structure = jax.tree.flatten(params)
    keys = jax.random.split(key, len(leaves))
    directions = structure.unflatten(
        [jax.random.normal(k, leaf.shape, leaf.dtype) for k, leaf in zip(keys, leaves, strict=True)]
    )
    _, products = jax.jvp(jax.grad(loss), (params,), (directions,))
    return jax.tree.map(jnp.multiply, directions, products)
