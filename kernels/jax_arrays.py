"""Arrays from one framework to the other, for tests that hold one to the other."""

import jax
import jax.numpy as jnp
import numpy as np
import torch


def to_jax(x: torch.Tensor) -> jax.Array:
    """Returns the values on JAX's default device, in the tensor's dtype."""
    # Through float32, which holds every bfloat16, because numpy has none of its own.
    wide = x.float() if x.dtype == torch.bfloat16 else x
    return jnp.asarray(wide.cpu().numpy(), dtype=str(x.dtype).removeprefix("torch."))


def to_torch(x: jax.Array) -> torch.Tensor:
    """Returns the values on the CPU, in the array's dtype."""
    wide = x.astype(jnp.float32) if x.dtype == jnp.bfloat16 else x
    return torch.from_numpy(np.array(wide)).to(getattr(torch, x.dtype.name))
