"""What is asked of a tree of gradients, or of curvature, before any of it is used."""

import jax
import jax.numpy as jnp
import numpy as np
import optax


def flat(tree: optax.Updates, params: optax.Params, what: str = "gradients") -> list[jax.Array]:
    """Returns the leaves in the order of the parameters'.

    Args:
      tree: Like the parameters.
      params: Arrays of the expected shapes.
      what: The tree's name, for messages.

    Raises:
      TypeError: A leaf is no dense array, or not real and floating-point.
      ValueError: A leaf has another shape than its parameter, or the trees differ.
    """
    leaves, structure = jax.tree.flatten(params)
    return [
        _checked(leaf, param.shape, what)
        for leaf, param in zip(structure.flatten_up_to(tree), leaves, strict=True)
    ]


def _checked(leaf: object, shape: tuple[int, ...], what: str) -> jax.Array:
    place = f"for a parameter of shape {shape}"
    # A number of numpy's is what its functions make of an array of no dimensions.
    if not isinstance(leaf, jax.Array | np.ndarray | np.generic):
        kind = "None" if leaf is None else type(leaf).__name__
        raise TypeError(
            f"expected dense {what}, got {kind} {place}; accepted: jax.Array, numpy.ndarray"
        )
    if not jnp.issubdtype(leaf.dtype, jnp.floating):
        raise TypeError(f"expected real floating-point {what}, got {leaf.dtype} {place}")
    if leaf.shape != shape:
        raise ValueError(f"expected {what} of the parameters' shapes, got {leaf.shape} {place}")
    return jnp.asarray(leaf)
