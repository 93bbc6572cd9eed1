"""Every algorithm of `optim` as an optax `GradientTransformation`.

    from optim.lion import Lion
    from optim.jax.transformation import matrices, transformation
    optimizer = transformation(Lion(weight_decay=1.0), learning_rate=schedule, mask=matrices)

Works under jit, scan and shard_map, and composes with optax: `optax.clip_by_global_norm` before it,
`optax.MultiSteps`, `optax.apply_if_finite` and `optax.partition` around it. See `optim.jax.fused`
for one pass over memory.
"""

from collections.abc import Callable, Mapping, Set
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import optax

from optim.algorithm import Algorithm, require_algorithm
from optim.jax.gradients import flat
from optim.jax.rates import checked, rate_at
from optim.jax.slots import arithmetic_dtype, new_slot, read, seed_of, written

# A tree of bools with the parameters' structure, or with one bool for a subtree of it; or what
# makes one of the parameters.
Mask: TypeAlias = optax.Params | Callable[[optax.Params], optax.Params]

# Of a leaf in a tree, as jax.tree_util gives it.
_Path: TypeAlias = tuple[Any, ...]


class State(NamedTuple):
    """State of `transformation`.

    `count` is int32 [], the updates made; `slots` has for each of the algorithm's slots a tree of
    arrays like the parameters, float32, or float64 for parameters of float64; or with
    `state_bits=8`, for parameters that are not small, its bytes; see `optim.jax.slots`.
    """

    count: jax.Array
    slots: dict[str, optax.Params]


def transformation(
    algorithm: Algorithm,
    learning_rate: optax.ScalarOrSchedule | None = None,
    *,
    mask: Mask | None = None,
) -> optax.GradientTransformationExtraArgs:
    """Returns the optimizer.

    Args:
      algorithm: The rule and its hyperparameters.
      learning_rate: A number or a function of the updates made; `algorithm.learning_rate` unless
        given.
      mask: Which parameters decay, all unless given; see `matrices`. As optax's: a tree of the
        whole model does under `optax.partition` and `optax.masked`, which hide some parameters.

    `update` needs the parameters. Of Sophia it also takes `curvature`: a tree of estimates of the
    Hessian's diagonal, from `optim.jax.curvature`, to be used before the update. Under
    `optax.MultiSteps` give it with the micro-step that completes an update: of any other all new
    state is dropped, and the estimate with it.

    Raises:
      TypeError: `algorithm` is none.
      ValueError: The learning rate is no number, negative or not finite. That of a schedule is
        checked by `update`, where it is known.

    Raises (of `init` and `update`):
      TypeError: Parameters, gradients or curvature are complex or not floating-point; gradients or
        curvature are sparse or missing; the algorithm has no curvature; or the mask has something
        else than a bool.
      ValueError: `update` was not given the parameters, or gradients, curvature or state have other
        shapes than these, or the state is of another algorithm.
    """
    require_algorithm(algorithm)
    if learning_rate is not None and not callable(learning_rate):
        checked(learning_rate)

    def init(params: optax.Params) -> State:
        for leaf in jax.tree.leaves(params):
            if not jnp.issubdtype(leaf.dtype, jnp.floating):
                raise TypeError(f"expected real floating-point parameters, got {leaf.dtype}")
        slots = {
            slot: jax.tree.map(lambda x: new_slot(x, algorithm.state_bits), params)
            for slot in algorithm.slots
        }
        return State(jnp.zeros((), jnp.int32), slots)

    def update(
        updates: optax.Updates,
        state: State,
        params: optax.Params | None = None,
        *,
        curvature: optax.Params | None = None,
        **_: object,
    ) -> tuple[optax.Updates, State]:
        if params is None:
            raise ValueError("update needs params: call update(grads, state, params)")
        grads = flat(updates, params)
        if curvature is not None:
            state = with_curvature(algorithm, state, params, curvature)
        rate = rate_at(algorithm, learning_rate, state.count)
        count = optax.safe_increment(state.count)
        scalars = algorithm.scalars(jnp, count)

        leaves, structure = jax.tree.flatten(params)
        slots = columns_of(algorithm, state, structure)
        changes, new = [], []
        for index, (param, grad, decay, *old) in enumerate(
            zip(leaves, grads, decays(mask, params), *slots, strict=True)
        ):
            values = [
                read(slot, param, is_square=name in algorithm.squares)
                for name, slot in zip(algorithm.slots, old, strict=True)
            ]
            wide = grad.astype(arithmetic_dtype(param))
            u, *changed = algorithm.direction(jnp, scalars, wide, *values)
            weight_decay = algorithm.weight_decay if decay else 0.0
            change = algorithm.change(param.astype(u.dtype), u, rate, weight_decay)
            changes.append(change.astype(param.dtype))
            new.append(
                [
                    slot if value is before else _written(algorithm, slot, i, value, count, index)
                    for i, (slot, before, value) in enumerate(
                        zip(old, values, changed, strict=True)
                    )
                ]
            )
        columns = zip(*new, strict=True) if new else [()] * len(algorithm.slots)
        trees = [structure.unflatten(column) for column in columns]
        kept_slots = dict(zip(algorithm.slots, trees, strict=True))
        return structure.unflatten(changes), State(count, kept_slots)

    return optax.GradientTransformationExtraArgs(init, update)


def matrices(params: optax.Params) -> optax.Params:
    """Returns a mask of what decays: all but vectors and single numbers, such as biases."""
    return jax.tree.map(lambda param: param.ndim > 1, params)


def fractions(algorithm: Algorithm, state: State, params: optax.Params) -> dict[str, jax.Array]:
    """Returns the fractions of weights that have a mark of the latest step: "clipped" of Sophia.

    Each is float32 [] and not exact. Of most algorithms there are none; see `Algorithm.marks`.
    """
    if not algorithm.mark_names:
        return {}
    leaves, structure = jax.tree.flatten(params)
    columns = columns_of(algorithm, state, structure)
    marks = [
        algorithm.marks(jnp, *(read(slot, param, is_square=False) for slot in slots))
        for param, *slots in zip(leaves, *columns, strict=True)
    ]
    # A count of them all may not be an int32.
    total = sum(leaf.size for leaf in leaves)
    return {
        name: sum(of[name].mean() * (of[name].size / total) for of in marks if of[name].size)
        for name in algorithm.mark_names
    }


def with_curvature(
    algorithm: Algorithm, state: State, params: optax.Params, curvature: optax.Params
) -> State:
    """Returns the state after an estimate of the curvature, a tree like the parameters.

    Raises:
      TypeError: The algorithm has no curvature, or the estimate is no dense array of real
        floating-point numbers.
      ValueError: Shapes are not the parameters', or the state is of another algorithm.
    """
    algorithm.require_curvature()
    estimates = flat(curvature, params, "curvature")
    place = algorithm.slots.index("curvature")
    leaves, structure = jax.tree.flatten(params)
    new = []
    for index, (param, slot, estimate) in enumerate(
        zip(leaves, columns_of(algorithm, state, structure)[place], estimates, strict=True)
    ):
        old = read(slot, param, is_square=False)
        value = algorithm.new_curvature(old, estimate.astype(old.dtype))
        new.append(_written(algorithm, slot, place, value, state.count, index))
    return State(state.count, state.slots | {"curvature": structure.unflatten(new)})


def columns_of(
    algorithm: Algorithm, state: State, structure: jax.tree_util.PyTreeDef
) -> list[list[jax.Array]]:
    """Returns each of the algorithm's slots as a list, in the order of the parameters' leaves.

    Raises:
      ValueError: The state is of another algorithm.
    """
    if state.slots.keys() != {*algorithm.slots}:
        raise ValueError(
            f"expected state of {type(algorithm).__name__}, which is "
            f"{', '.join(sorted(algorithm.slots))}; got {', '.join(sorted(state.slots))}"
        )
    return [structure.flatten_up_to(state.slots[slot]) for slot in algorithm.slots]


def _written(
    algorithm: Algorithm,
    slot: jax.Array,
    place: int,
    value: jax.Array,
    count: jax.Array,
    index: int,
) -> jax.Array:
    is_square = algorithm.slots[place] in algorithm.squares
    return written(slot, value, is_square=is_square, seed=seed_of(count, index, place))


def decays(mask: Mask | None, params: optax.Params) -> list[bool]:
    """Returns for each parameter, in the order of the leaves, whether it decays.

    Raises:
      TypeError: The mask has something else than a bool.
      ValueError: It says nothing of a parameter, or something of what is none.
    """
    leaves, _ = jax.tree_util.tree_flatten_with_path(params)
    if mask is None:
        return [True] * len(leaves)
    flat_marks, _ = jax.tree_util.tree_flatten_with_path(mask(params) if callable(mask) else mask)
    marks = {path: _checked_mark(path, mark) for path, mark in flat_marks}
    # By paths and not by structure: optax puts nodes of its own for parameters that it hides.
    chosen = [_path_of_mark(path, marks) for path, _ in leaves]
    _check_strays(marks.keys() - set(chosen), params)
    return [marks[path] for path in chosen]


def _checked_mark(path: _Path, mark: object) -> bool:
    if not isinstance(mark, bool | np.bool_):
        raise TypeError(
            f"the mask has {mark!r} for {jax.tree_util.keystr(path) or 'all parameters'}; "
            "accepted: bool, numpy.bool_"
        )
    return bool(mark)


def _path_of_mark(path: _Path, marks: Mapping[_Path, bool]) -> _Path:
    for length in range(len(path) + 1):
        if path[:length] in marks:
            return path[:length]
    raise ValueError(
        f"the mask has no bool for the parameter {jax.tree_util.keystr(path)}, nor for a tree that "
        "it is in"
    )


def _check_strays(strays: Set[_Path], params: optax.Params) -> None:
    """Refuses marks that are neither of a parameter nor of one that optax hides."""

    def is_hidden(node: Any) -> bool:
        return isinstance(node, optax.MaskedNode)

    nodes, _ = jax.tree_util.tree_flatten_with_path(params, is_leaf=is_hidden)
    hidden = {path for path, node in nodes if is_hidden(node)}
    above = {path[:length] for path in hidden for length in range(len(path))}
    for stray in strays:
        if stray not in above and not any(stray[: n + 1] in hidden for n in range(len(stray))):
            raise ValueError(
                f"the mask has a bool for {jax.tree_util.keystr(stray)}, which is no parameter"
            )
