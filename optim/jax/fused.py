"""Every algorithm of `optim` in one pass over memory, weights included.

    from optim.jax.fused import step
    optimizer = transformation(algorithm)
    state = optimizer.init(params)

    @partial(jax.jit, donate_argnames=("params", "state"))
    def train_step(params, state, batch):
        return step(algorithm, params, state, jax.grad(loss)(params, batch))

JAX gives a donated array's memory to the first result of its shape: take and return the parameters
and the state in the same order, or they swap places and are copied.

What optax calls an update and `optax.apply_updates` are two passes, of which XLA makes one a tensor
where it can. This is one call for all tensors, in their own memory if they are donated, and shares
its state with `transformation`. It is for the weights of one device: XLA cannot split the call over
a mesh, but shard_map can.

If one of the weights has no kernel (float64, a TPU, `HPC_KERNEL_BACKEND=reference`), all follow the
rule as it is written: `transformation` and `optax.apply_updates`.
"""

import jax
import jax.numpy as jnp
import optax

from kernels.optimizer_step import contract, jax_op
from optim.algorithm import Algorithm, require_algorithm
from optim.jax.decay import Decay
from optim.jax.gradients import flat
from optim.jax.rates import rate_at
from optim.jax.transformation import (
    Mask,
    State,
    columns_of,
    decays,
    transformation,
    with_curvature,
)


def step(
    algorithm: Algorithm,
    params: optax.Params,
    state: State,
    grads: optax.Updates,
    *,
    learning_rate: optax.ScalarOrSchedule | None = None,
    mask: Mask | None = None,
    curvature: optax.Params | None = None,
    decay_scale: jax.typing.ArrayLike | None = None,
) -> tuple[optax.Params, State]:
    """Returns the parameters and the state after an update.

    Nothing skips one whose gradients are not finite, which spoil weights and state: what does,
    `optax.apply_if_finite`, wraps `transformation` only.

    Args:
      algorithm: One of `optim.registry`.
      params: As of `transformation`; kernels take float32, bfloat16 and float16, on a CPU or a GPU.
      state: Of `transformation(algorithm).init(params)`.
      grads: A tree like the parameters; for a kernel, of dtypes whose values the parameters' hold.
      learning_rate: As of `transformation`.
      mask: As of `transformation`.
      curvature: As of the `update` of `transformation`.
      decay_scale: Factor of the weight decay of this step, which may be traced. The kernels' weight
        decay is constant, so weights decay in a pass of their own, before or after the kernel: the
        same but for rounding. None: it is 1, and there is no such pass.

    Raises:
      TypeError: As of `transformation`.
      ValueError: Likewise; or a kernel would have to round a gradient, or `HPC_KERNEL_BACKEND` is
        no backend's name.
    """
    require_algorithm(algorithm)
    if decay_scale is not None:
        decay = Decay(algorithm, learning_rate, mask, state.count, decay_scale)
        params, state = step(
            algorithm.model_copy(update={"weight_decay": 0.0}),
            decay.before(params),
            state,
            grads,
            learning_rate=learning_rate,
            mask=mask,
            curvature=curvature,
        )
        return decay.after(params), state
    flat_grads = flat(grads, params)
    leaves, structure = jax.tree.flatten(params)
    has_kernels = algorithm.name in contract.RULES and jax_op.have_kernels(leaves)
    if not leaves or not has_kernels:
        rule = transformation(algorithm, learning_rate, mask=mask)
        updates, state = rule.update(grads, state, params, curvature=curvature)
        return optax.apply_updates(params, updates), state
    if curvature is not None:
        state = with_curvature(algorithm, state, params, curvature)
    rate = rate_at(algorithm, learning_rate, state.count)
    count = optax.safe_increment(state.count)
    scalars = algorithm.scalars(jnp, count)
    names = contract.RULES[algorithm.name]

    columns = columns_of(algorithm, state, structure)
    new_params, new_slots = jax_op.step(
        algorithm.name,
        leaves,
        flat_grads,
        list(zip(*columns, strict=True)),
        step=count,
        rate=jnp.asarray(rate, jnp.float32),
        scalars=[jnp.asarray(scalars[name], jnp.float32) for name in names.scalars],
        weight_decay=algorithm.weight_decay,
        decays=decays(mask, params),
        decay_is_proximal=algorithm.decay_is_proximal,
        hyperparameters=[getattr(algorithm, name) for name in names.hyperparameters],
    )
    trees = [structure.unflatten(column) for column in zip(*new_slots, strict=True)]
    slots = dict(zip(algorithm.slots, trees, strict=True))
    return structure.unflatten(new_params), State(count, slots)
