"""Derivatives of an operation in JAX, of every order and in both directions.

An operation has two kernels, for its results and for their gradients, and a formula in JAX's own
operations. First derivatives in reverse mode are the kernels'. All others, which no kernel
computes, are those of the formula: forward mode, and the derivatives of the gradients.

An operation is three primitives of JAX: the results, their derivative in a direction, which is the
formula's, and the gradients. Reverse mode transposes forward mode, and the gradients are the
transpose of the derivative. The rules are those of primitives and not of `jax.custom_jvp`, whose
rules are lost where `jax.lax.scan` is evaluated in part.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from kernels import jax_calls
from kernels.portable import is_portable

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


def call(operation: Operation, *inputs: jax.Array | None) -> tuple[jax.Array, ...]:
    """Returns the results of an operation, differentiable as often as wanted."""
    if is_portable():
        return operation.formula(*inputs)
    given = tuple(i for i, x in enumerate(inputs) if x is not None)
    place = _Place(operation, len(inputs), given)
    return _bind(_results_p, place, *(x for x in inputs if x is not None))


class _Place(NamedTuple):
    """Which operand of a primitive is what: the given inputs, then the results, then a vector.

    The vector is changes of inputs for the derivative, and gradients of results for the gradients.

    Attributes:
      operation: of which this is a part.
      num_inputs: how many inputs it takes.
      given: the inputs that are not None.
      num_outputs: how many results are among the operands.
      varied: the inputs that the derivative is with respect to.
      pulled: the results of which the gradients are.
    """

    operation: Operation
    num_inputs: int
    given: tuple[int, ...]
    num_outputs: int = 0
    varied: tuple[int, ...] = ()
    pulled: tuple[int, ...] = ()

    def split(self, operands: Sequence[Any]) -> tuple[list[Any], list[Any], list[Any]]:
        """Returns all inputs, the results and the vector."""
        num_given = len(self.given)
        inputs = replaced([None] * self.num_inputs, self.given, operands[:num_given])
        others = list(operands[num_given:])
        return inputs, others[: self.num_outputs], others[self.num_outputs :]

    def formula(self, inputs: Sequence[Any]) -> tuple[Function, list[Any]]:
        """Returns the formula as a function of the varied inputs, and these."""

        def of_varied(*values: jax.Array) -> tuple[jax.Array, ...]:
            return self.operation.formula(*replaced(inputs, self.varied, values))

        return of_varied, [inputs[i] for i in self.varied]


def _results(*operands: jax.Array, place: _Place) -> tuple[jax.Array, ...]:
    """By the kernel."""
    inputs, _, _ = place.split(operands)
    return place.operation.forward(*inputs)


def _derivative(*operands: jax.Array, place: _Place) -> tuple[jax.Array, ...]:
    """The change of the results along changes of the varied inputs, by the formula."""
    inputs, _, changes = place.split(operands)
    formula, values = place.formula(inputs)
    results: tuple[jax.Array, ...] = jax.jvp(formula, values, changes)[1]
    return results


def _gradients(*operands: jax.Array, place: _Place) -> tuple[jax.Array, ...]:
    """The gradients of the varied inputs from those of the pulled results, by the kernel."""
    inputs, outputs, grads = place.split(operands)
    all_grads = replaced([None] * len(outputs), place.pulled, grads)
    return place.operation.backward(inputs, outputs, all_grads, place.varied)


def _formula_gradients(*operands: jax.Array, place: _Place) -> tuple[jax.Array, ...]:
    """As `_gradients`, by the formula."""
    inputs, _, grads = place.split(operands)
    formula, values = place.formula(inputs)
    outputs, pull = jax.vjp(formula, *values)
    results: tuple[jax.Array, ...] = pull(
        tuple(replaced([jnp.zeros_like(x) for x in outputs], place.pulled, grads))
    )
    return results


def _results_jvp(primals, tangents, *, place):  # type: ignore[no-untyped-def]
    outputs = _bind(_results_p, place, *primals)
    changes = {
        i: tangent
        for i, tangent in zip(place.given, tangents, strict=True)
        if i < place.operation.num_differentiable and not isinstance(tangent, ad.Zero)
    }
    place = place._replace(num_outputs=len(outputs), varied=tuple(changes))
    return outputs, _bind(_derivative_p, place, *primals, *outputs, *changes.values())


def _derivative_jvp(primals, tangents, *, place):  # type: ignore[no-untyped-def]
    """Of the second order, and so the formula's."""
    return _along(functools.partial(_derivative, place=place), primals, tangents)


def _gradients_jvp(primals, tangents, *, place):  # type: ignore[no-untyped-def]
    """By the formula; the results follow from the inputs, so that their changes are in it."""
    formula = functools.partial(_formula_gradients, place=place)
    return _bind(_gradients_p, place, *primals), _along(formula, primals, tangents)[1]


def _along(function: Function, primals: Sequence[Any], tangents: Sequence[Any]) -> Any:
    """jax.jvp with no change where the tangent is a symbolic zero."""
    moved = [i for i, tangent in enumerate(tangents) if not isinstance(tangent, ad.Zero)]
    return jax.jvp(
        lambda *values: function(*replaced(primals, moved, values)),
        [primals[i] for i in moved],
        [tangents[i] for i in moved],
    )


def _derivative_transpose(cotangents, *operands, place):  # type: ignore[no-untyped-def]
    """From the change of the inputs to their gradients."""
    known, asked = _known(operands, place)
    pulled = _nonzero(cotangents)
    back = place._replace(varied=tuple(place.varied[i] for i in asked), pulled=pulled)
    gradients = _bind(_gradients_p, back, *known, *(cotangents[i] for i in pulled))
    return replaced([None] * len(operands), [len(known) + i for i in asked], gradients)


def _gradients_transpose(cotangents, *operands, place):  # type: ignore[no-untyped-def]
    """The other way: from the gradients of the results to their change."""
    known, asked = _known(operands, place)
    moved = _nonzero(cotangents)
    back = place._replace(varied=tuple(place.varied[i] for i in moved), pulled=())
    changes = _bind(_derivative_p, back, *known, *(cotangents[i] for i in moved))
    wanted = [changes[place.pulled[i]] for i in asked]
    return replaced([None] * len(operands), [len(known) + i for i in asked], wanted)


def _known(operands: Sequence[Any], place: _Place) -> tuple[Sequence[Any], list[int]]:
    """Returns inputs and results, and which parts of the vector are linear unknowns."""
    size = len(place.given) + place.num_outputs
    asked = [i for i, x in enumerate(operands[size:]) if ad.is_undefined_primal(x)]
    return operands[:size], asked


def _nonzero(values: Sequence[Any]) -> tuple[int, ...]:
    """The indices of what is no symbolic zero."""
    return tuple(i for i, x in enumerate(values) if not isinstance(x, ad.Zero))


def _vmap(primitive, operands, axes, *, place):  # type: ignore[no-untyped-def]
    """The mapped axis becomes part of the batch."""
    size = next(x.shape[d] for x, d in zip(operands, axes, strict=True) if d is not None)
    unbatched = [place.given.index(i) for i in place.operation.unbatched if i in place.given]
    mapped = [d is not None for d in axes]
    front = [x if d is None else jnp.moveaxis(x, d, 0) for x, d in zip(operands, axes, strict=True)]
    outputs = _fold(functools.partial(_bind, primitive, place), size, mapped, front, unbatched)
    return outputs, (0,) * len(outputs)


def _bind(primitive: Primitive, place: _Place, *operands: jax.Array) -> tuple[jax.Array, ...]:
    return tuple(primitive.bind(*jax_calls.vary_alike(operands), place=place))


def _primitive(name: str, function: Function, jvp: Any, transpose: Any = None) -> Primitive:
    """Makes a primitive of a function of operands and their place."""
    primitive = Primitive(name)
    primitive.multiple_results = True
    compiled = jax.jit(function, static_argnames="place")
    primitive.def_impl(compiled)
    primitive.def_abstract_eval(
        lambda *operands, place: compiled.trace(*operands, place=place).jaxpr.out_avals
    )
    mlir.register_lowering(primitive, mlir.lower_fun(function, multiple_results=True))
    ad.primitive_jvps[primitive] = jvp
    if transpose:
        ad.primitive_transposes[primitive] = transpose
    batching.primitive_batchers[primitive] = functools.partial(_vmap, primitive)
    return primitive


_results_p = _primitive("hpc_results", _results, _results_jvp)
_derivative_p = _primitive("hpc_derivative", _derivative, _derivative_jvp, _derivative_transpose)
_gradients_p = _primitive("hpc_gradients", _gradients, _gradients_jvp, _gradients_transpose)


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


# By which policies of `jax.checkpoint` know what kernels gave.
RESULTS = _results_p
