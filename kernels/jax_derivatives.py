"""Derivatives of an operation in JAX, of every order and in both directions.

An operation has two kernels, for its results and for their gradients, and a formula in JAX's own
operations. First derivatives in reverse mode are the kernels'. All others, which no kernel
computes, are those of the formula: forward mode, and the derivatives of the gradients.

Reverse mode transposes forward mode, so there is a primitive, the derivative of an operation in a
direction: run forwards it is the formula's, and its transpose is the kernel of the gradients.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from kernels import jax_calls

# A function of arrays that gives several.
Function = Callable[..., tuple[jax.Array, ...]]
Arrays = Sequence[jax.Array | None]


class Operation(Protocol):
    """An operation with its options, hashable: a function of arrays [batch, ...] to several.

    Attributes:
      num_differentiable: of the first so many inputs there are gradients.
      unbatched: the inputs without a batch, by their index.
    """

    @property
    def num_differentiable(self) -> int: ...
    @property
    def unbatched(self) -> tuple[int, ...]: ...

    def forward(self, *inputs: jax.Array | None) -> tuple[jax.Array, ...]:
        """The results, by a kernel; None stands for an input that is not given."""
        ...

    def backward(
        self, inputs: Arrays, outputs: Arrays, grads: Arrays, wanted: tuple[int, ...]
    ) -> tuple[jax.Array, ...]:
        """The gradients of the inputs `wanted`, by a kernel; None stands for zeros."""
        ...

    def formula(self, *inputs: jax.Array | None) -> tuple[jax.Array, ...]:
        """The results in JAX's own operations, of the same shapes and dtypes."""
        ...


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def call(operation: Operation, *inputs: jax.Array | None) -> tuple[jax.Array, ...]:
    """Returns the results of an operation, differentiable as often as wanted."""
    return operation.forward(*inputs)


def _call_jvp(operation, primals, tangents):  # type: ignore[no-untyped-def]
    outputs = call(operation, *primals)
    changed = tuple(
        i
        for i, tangent in enumerate(tangents[: operation.num_differentiable])
        if tangent is not None and not jax_calls.is_zero(tangent)
    )
    given = tuple(i for i, x in enumerate(primals) if x is not None)
    operands = (*(primals[i] for i in given), *outputs, *(tangents[i] for i in changed))
    place = _Place(operation, len(primals), given, len(outputs), changed)
    return outputs, tuple(_derivative_p.bind(*jax_calls.vary_alike(operands), place=place))


call.defjvp(_call_jvp, symbolic_zeros=True)


class _Place(NamedTuple):
    """Which operand of the primitive is what: given inputs, then results, then changes of inputs.

    Attributes:
      operation: of which this is the derivative.
      num_inputs: how many inputs it takes.
      given: the inputs that are not None.
      num_outputs: how many results it has.
      changed: the inputs that change.
    """

    operation: Operation
    num_inputs: int
    given: tuple[int, ...]
    num_outputs: int
    changed: tuple[int, ...]

    def split(self, operands: Sequence[Any]) -> tuple[list[Any], Sequence[Any], Sequence[Any]]:
        """Returns all inputs, the results and the changes."""
        num_given = len(self.given)
        inputs = replaced([None] * self.num_inputs, self.given, operands[:num_given])
        others = operands[num_given:]
        return inputs, others[: self.num_outputs], others[self.num_outputs :]


def _derivative(*operands: jax.Array, place: _Place) -> tuple[jax.Array, ...]:
    """The change of the results, by the formula."""
    inputs, _, changes = place.split(operands)
    results: tuple[jax.Array, ...] = jax.jvp(
        lambda *values: place.operation.formula(*replaced(inputs, place.changed, values)),
        tuple(inputs[i] for i in place.changed),
        tuple(changes),
    )[1]
    return results


def _derivative_shapes(*operands: Any, place: _Place) -> list[Any]:
    _, outputs, _ = place.split(operands)
    return [x.update(weak_type=False) for x in outputs]


def _derivative_jvp(primals, tangents, *, place):  # type: ignore[no-untyped-def]
    """Of the second order, and so the formula's."""
    moved = [i for i, tangent in enumerate(tangents) if not isinstance(tangent, ad.Zero)]
    return jax.jvp(
        lambda *values: _derivative(*replaced(primals, moved, values), place=place),
        tuple(primals[i] for i in moved),
        tuple(tangents[i] for i in moved),
    )


def _derivative_transpose(cotangents, *operands, place):  # type: ignore[no-untyped-def]
    """The kernel of the gradients."""
    inputs, outputs, changes = place.split(operands)
    grads = [None if isinstance(g, ad.Zero) else g for g in cotangents]
    gradients = _gradients(place.operation, place.changed, inputs, list(outputs), grads)
    kept = (
        g if ad.is_undefined_primal(change) else None
        for g, change in zip(gradients, changes, strict=True)
    )
    return *(None,) * (len(operands) - len(changes)), *kept


def _derivative_vmap(operands, axes, *, place):  # type: ignore[no-untyped-def]
    """The mapped axis becomes part of the batch."""
    size = next(x.shape[d] for x, d in zip(operands, axes, strict=True) if d is not None)
    unbatched = [place.given.index(i) for i in place.operation.unbatched if i in place.given]
    mapped = [d is not None for d in axes]
    front = [x if d is None else jnp.moveaxis(x, d, 0) for x, d in zip(operands, axes, strict=True)]
    outputs = _fold(functools.partial(_bind, place), size, mapped, front, unbatched)
    return outputs, (0,) * len(outputs)


def _bind(place: _Place, *operands: jax.Array) -> tuple[jax.Array, ...]:
    return tuple(_derivative_p.bind(*operands, place=place))


_derivative_p = Primitive("hpc_derivative")
_derivative_p.multiple_results = True
_derivative_p.def_impl(jax.jit(_derivative, static_argnames="place"))
_derivative_p.def_abstract_eval(_derivative_shapes)
mlir.register_lowering(_derivative_p, mlir.lower_fun(_derivative, multiple_results=True))
ad.primitive_jvps[_derivative_p] = _derivative_jvp
ad.primitive_transposes[_derivative_p] = _derivative_transpose
batching.primitive_batchers[_derivative_p] = _derivative_vmap


@functools.partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def _gradients(
    operation: Operation,
    wanted: tuple[int, ...],
    inputs: Arrays,
    outputs: Arrays,
    grads: Arrays,
) -> tuple[jax.Array, ...]:
    """The gradients of the inputs `wanted`, None in `grads` standing for zeros."""
    return operation.backward(inputs, outputs, grads, wanted)


@_gradients.defjvp
def _gradients_jvp(operation, wanted, primals, tangents):  # type: ignore[no-untyped-def]
    """By the formula; the results follow from the inputs, so that their changes are in it."""
    inputs, outputs, grads = primals
    changes, _, grad_changes = tangents
    moved = [i for i in range(operation.num_differentiable) if inputs[i] is not None]

    def formula(values, grads):  # type: ignore[no-untyped-def]
        given = replaced(inputs, moved, values)
        results, pull = jax.vjp(
            lambda *needed: operation.formula(*replaced(given, wanted, needed)),
            *(given[i] for i in wanted),
        )
        return pull(
            tuple(
                jnp.zeros_like(x) if g is None else g for x, g in zip(results, grads, strict=True)
            )
        )

    directions = [changes[i] for i in moved], grad_changes
    _, derivative = jax.jvp(formula, ([inputs[i] for i in moved], grads), directions)
    return _gradients(operation, wanted, inputs, outputs, grads), derivative


def fold_vmap(function: Function, unbatched: tuple[int, ...] = ()) -> Function:
    """Makes vmap of a function of arrays [batch, ...] fold the mapped axis into the batch.

    Args:
      function: of arrays, which gives several.
      unbatched: the arguments without a batch, by their index from the end. Where one of them is
        mapped, the function runs for one element after the other.
    """
    mapped = jax.custom_batching.custom_vmap(function)

    @mapped.def_vmap
    def _(axis_size: int, in_batched: list[bool], *args: jax.Array):  # type: ignore[no-untyped-def]
        without = [len(args) + i for i in unbatched]
        outputs = _fold(mapped, axis_size, in_batched, args, without)
        return outputs, (True,) * len(outputs)

    return mapped


def _fold(
    function: Function,
    size: int,
    mapped: Sequence[bool],
    args: Sequence[jax.Array],
    unbatched: Sequence[int],
) -> tuple[jax.Array, ...]:
    """Runs a function whose mapped arguments have one more axis, of this size, in front."""
    if not size:  # Shapes are those of one element.
        ones = [
            jax.ShapeDtypeStruct((1, *x.shape[1:]) if is_mapped else x.shape, x.dtype)
            for x, is_mapped in zip(args, mapped, strict=True)
        ]
        shapes = jax.eval_shape(lambda *x: _fold(function, 1, mapped, x, unbatched), *ones)
        return tuple(jnp.zeros((0, *x.shape[1:]), x.dtype) for x in shapes)
    if any(mapped[i] for i in unbatched):
        moved = [i for i, is_mapped in enumerate(mapped) if is_mapped]

        def one(values: list[jax.Array]) -> tuple[jax.Array, ...]:
            return tuple(function(*replaced(args, moved, values)))

        results: tuple[jax.Array, ...] = jax.lax.map(one, [args[i] for i in moved])
        return results

    def into_batch(index: int, x: jax.Array) -> jax.Array:
        if index in unbatched:
            return x
        x = x if mapped[index] else jnp.broadcast_to(x, (size, *x.shape))
        return x.reshape(size * x.shape[1], *x.shape[2:])

    outputs = function(*(into_batch(i, x) for i, x in enumerate(args)))
    return tuple(x.reshape(size, x.shape[0] // size, *x.shape[1:]) for x in outputs)


def replaced(values: Sequence[Any], indices: Sequence[int], new: Sequence[Any]) -> list[Any]:
    """Returns the values with some of them replaced."""
    result = list(values)
    for index, value in zip(indices, new, strict=True):
        result[index] = value
    return result
