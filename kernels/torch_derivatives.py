"""Derivatives of an operation in PyTorch, of every order and in both directions.

An operation has two kernels, for its results and for their gradients, and a formula in PyTorch's
own operations. First derivatives in reverse mode are the kernels'. All others, which no kernel
computes, are those of the formula: forward mode, and the derivatives of the gradients.

Both kernels are `torch.autograd.Function`s in the form that the transforms of `torch.func` take;
where none is at work, and nobody differentiates gradients, they do with less. torch.compile takes
no Function with a rule for forward mode, so there the operator counts, which has a gradient of its
own, and within a transform the formula.
"""

import inspect
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from torch.autograd import forward_ad

from kernels.portable import is_portable

# torch.compile cannot look into a ContextVar, and need not: what it compiles is not portable.
torch.compiler.assume_constant_result(is_portable)

Tensors = tuple[torch.Tensor | None, ...]


class Operation(Protocol):
    """An operation with its options: a function of tensors [batch, ...] that gives several.

    Attributes:
      num_inputs: how many tensors it takes; None stands for one that is not given.
      num_differentiable: of the first so many inputs there are gradients.
      unbatched: the inputs without a batch, by their index.
    """

    @property
    def num_inputs(self) -> int: ...
    @property
    def num_differentiable(self) -> int: ...
    @property
    def unbatched(self) -> tuple[int, ...]: ...

    def operator(self, *inputs: torch.Tensor | None) -> tuple[torch.Tensor, ...]:
        """The results, by a registered operator that has a gradient."""
        ...

    def backward(
        self, inputs: Tensors, outputs: Tensors, grads: Tensors, wanted: tuple[bool, ...]
    ) -> Tensors:
        """The gradients of those differentiable inputs that are wanted."""
        ...

    def formula(self, *inputs: torch.Tensor | None) -> tuple[torch.Tensor, ...]:
        """The results in PyTorch's own operations, of the same shapes and dtypes."""
        ...


def call(operation: Operation, *inputs: torch.Tensor | None) -> tuple[torch.Tensor, ...]:
    """Returns the results of an operation, differentiable as often as wanted."""
    if is_portable():
        return operation.formula(*inputs)
    if torch.compiler.is_compiling():
        if _within_transform():
            return operation.formula(*inputs)
        return operation.operator(*inputs)
    if not _is_differentiated(inputs):
        return operation.operator(*inputs)
    is_transformed = torch._C._are_functorch_transforms_active()
    function = _Forward if is_transformed else _ForwardOutsideTransforms
    results: tuple[torch.Tensor, ...] = function.apply(operation, *inputs)
    return results


def _is_differentiated(inputs: Tensors) -> bool:
    """Whether any derivative may be asked for; if not, a Function would only take time."""
    if torch._C._are_functorch_transforms_active() or forward_ad._current_level >= 0:
        return True
    return torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in inputs)


@torch.compiler.assume_constant_result
def _within_transform() -> bool:
    """Whether a transform of torch.func is at work, asked while torch.compile traces."""
    return torch._C._functorch.peek_interpreter_stack() is not None


def refuse_forward_mode(operator: str) -> None:
    """Raises NotImplementedError where PyTorch would take an operator's results for constant.

    In forward mode none but a Function may run one: a bare operator never learns of tangents.
    """
    if forward_ad._current_level >= 0 and forward_ad._is_fwd_grad_enabled():
        raise NotImplementedError(
            f"{operator} has no derivative in forward mode: call the function of torch_op that "
            "runs it, and not in code that torch.compile made before"
        )


def _with_signature(function: Callable[..., Any]) -> Callable[..., Any]:
    """Keeps the signature that a Function asks for in every call, which takes 20 us to find."""
    function.__signature__ = inspect.signature(function)  # type: ignore[attr-defined]
    return function


class _Forward(torch.autograd.Function):
    """Inputs to results."""

    @staticmethod
    @_with_signature
    def forward(operation: Operation, *inputs: torch.Tensor | None) -> tuple[torch.Tensor, ...]:
        return operation.operator(*inputs)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensors) -> None:
        ctx.operation, *tensors = inputs
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*tensors, *output)
        ctx.save_for_forward(*tensors, *output)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor | None) -> Any:
        operation: Operation = ctx.operation
        wanted = tuple(ctx.needs_input_grad[1 : 1 + operation.num_differentiable])
        tensors = (*ctx.saved_tensors, *grads)
        run = _Backward.apply if _is_differentiated(tensors) else _Backward.forward
        gradients = run(operation, wanted, *tensors)
        indices = [i for i, is_wanted in enumerate(wanted) if is_wanted]
        return None, *_with([None] * operation.num_inputs, indices, gradients)

    @staticmethod
    def jvp(ctx: Any, _: None, *tangents: torch.Tensor | None) -> Any:
        operation: Operation = ctx.operation
        inputs = ctx.saved_tensors[: operation.num_inputs]
        return _directional(operation.formula, inputs, tangents)

    @staticmethod
    def vmap(info: Any, in_dims: Any, operation: Operation, *inputs: torch.Tensor | None) -> Any:
        def run(*folded: torch.Tensor | None) -> tuple[torch.Tensor, ...]:
            return call(operation, *folded)

        return _fold(run, info.batch_size, in_dims[1:], inputs, operation.unbatched)


class _ForwardOutsideTransforms(torch.autograd.Function):
    """`_Forward` in the older form, which no transform takes, but which binds no arguments.

    To bind them takes 10 us a call.
    """

    @staticmethod
    def forward(
        ctx: Any, operation: Operation, *inputs: torch.Tensor | None
    ) -> tuple[torch.Tensor, ...]:
        results = operation.operator(*inputs)
        _Forward.setup_context(ctx, (operation, *inputs), results)
        return results

    backward = _Forward.backward
    jvp = _Forward.jvp


class _Backward(torch.autograd.Function):
    """Inputs, results and the gradients of the results to the gradients of the inputs.

    The results follow from the inputs, so derivatives with respect to the inputs are total ones,
    and none are with respect to the results.
    """

    @staticmethod
    @_with_signature
    def forward(
        operation: Operation, wanted: tuple[bool, ...], *tensors: torch.Tensor | None
    ) -> Tensors:
        inputs, others = tensors[: operation.num_inputs], tensors[operation.num_inputs :]
        outputs, grads = others[: len(others) // 2], others[len(others) // 2 :]
        return operation.backward(inputs, outputs, grads, wanted)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensors) -> None:
        ctx.operation, ctx.wanted, *tensors = inputs
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*tensors)
        ctx.save_for_forward(*tensors)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor | None) -> Any:
        def run(*tensors: torch.Tensor | None) -> tuple[torch.Tensor, ...]:
            return _formula_gradients(ctx.operation, ctx.wanted, tensors)

        needed = _without_results(ctx.operation, ctx.needs_input_grad[2:], False)
        return None, None, *_pull_back(run, ctx.saved_tensors, needed, grads)

    @staticmethod
    def jvp(ctx: Any, _: None, __: None, *tangents: torch.Tensor | None) -> Any:
        def run(*tensors: torch.Tensor | None) -> tuple[torch.Tensor, ...]:
            return _formula_gradients(ctx.operation, ctx.wanted, tensors)

        changes = _without_results(ctx.operation, tangents, None)
        return _directional(run, ctx.saved_tensors, changes)

    @staticmethod
    def vmap(
        info: Any,
        in_dims: Any,
        operation: Operation,
        wanted: tuple[bool, ...],
        *tensors: torch.Tensor | None,
    ) -> Any:
        def run(*folded: torch.Tensor | None) -> Any:
            return _Backward.apply(operation, wanted, *folded)

        return _fold(run, info.batch_size, in_dims[2:], tensors, operation.unbatched)


def _without_results(operation: Operation, values: Sequence[Any], nothing: Any) -> list[Any]:
    """One value for each tensor of `_Backward`, with nothing for the operation's results."""
    num_results = (len(values) - operation.num_inputs) // 2
    results = range(operation.num_inputs, operation.num_inputs + num_results)
    return _with(values, results, [nothing] * num_results)


def _formula_gradients(
    operation: Operation, wanted: tuple[bool, ...], tensors: Sequence[torch.Tensor | None]
) -> tuple[torch.Tensor, ...]:
    """What the kernel of the gradients computes, from the same tensors."""
    inputs, others = tensors[: operation.num_inputs], tensors[operation.num_inputs :]
    needed = (*wanted, *(False,) * (operation.num_inputs - len(wanted)))
    pulled = _pull_back(operation.formula, inputs, needed, others[len(others) // 2 :])
    return tuple(x for x in pulled if x is not None)


def _pull_back(
    function: Callable[..., tuple[torch.Tensor, ...]],
    inputs: Sequence[torch.Tensor | None],
    needed: Sequence[bool],
    grads: Sequence[torch.Tensor | None],
) -> list[torch.Tensor | None]:
    """The gradients of a function's needed inputs, None for the others."""
    chosen = [i for i, is_needed in enumerate(needed) if is_needed and inputs[i] is not None]

    def of_chosen(*values: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return function(*_with(inputs, chosen, values))

    outputs, pull = torch.func.vjp(of_chosen, *(inputs[i] for i in chosen))
    cotangents = tuple(
        torch.zeros_like(x) if g is None else g for x, g in zip(outputs, grads, strict=True)
    )
    return _with([None] * len(inputs), chosen, pull(cotangents))


def _directional(
    function: Callable[..., tuple[torch.Tensor, ...]],
    inputs: Sequence[torch.Tensor | None],
    tangents: Sequence[torch.Tensor | None],
) -> tuple[torch.Tensor, ...]:
    """The derivative of a function in a direction, None being no change of an input.

    By two passes in reverse mode, for forward mode cannot be nested in forward mode: the gradient
    is linear in what it is given, and its own gradient is the derivative.
    """
    chosen = [i for i, tangent in enumerate(tangents) if tangent is not None]
    # A Function's rule runs with forward mode off. It has to be on for that of an outer transform;
    # of this transform the inputs have got their tangents already.
    with forward_ad._set_fwd_grad_enabled(True):
        primals = [x if x is None else forward_ad.unpack_dual(x).primal for x in inputs]

        def of_chosen(*values: torch.Tensor) -> tuple[torch.Tensor, ...]:
            return function(*_with(primals, chosen, values))

        outputs, pull = torch.func.vjp(of_chosen, *(primals[i] for i in chosen))
        _, push = torch.func.vjp(pull, tuple(map(torch.zeros_like, outputs)))
        (derivatives,) = push(tuple(tangents[i] for i in chosen))
    result: tuple[torch.Tensor, ...] = derivatives
    return result


def _with(values: Sequence[Any], indices: Sequence[int], new: Sequence[Any]) -> list[Any]:
    """The values with some of them replaced."""
    replaced = list(values)
    for index, value in zip(indices, new, strict=True):
        replaced[index] = value
    return replaced


def _fold(
    run: Callable[..., tuple[torch.Tensor, ...]],
    size: int,
    in_dims: Sequence[int | None],
    tensors: Sequence[torch.Tensor | None],
    unbatched: tuple[int, ...],
) -> tuple[tuple[torch.Tensor, ...], tuple[int, ...]]:
    """Runs a function over a mapped axis as part of the batch.

    Where an input without a batch is mapped, one after the other.
    """

    def front(x: torch.Tensor | None, dim: int | None) -> torch.Tensor | None:
        if x is None:
            return None
        return x.expand(size, *x.shape) if dim is None else x.movedim(dim, 0)

    if not size:  # Shapes are those of one element, which still depends on what is mapped.
        ones = [
            x if x is None or dim is None else _one(x.movedim(dim, 0))
            for x, dim in zip(tensors, in_dims, strict=True)
        ]
        outputs, dims = _fold(run, 1, [None if d is None else 0 for d in in_dims], ones, unbatched)
        return tuple(x[:0] for x in outputs), dims
    if any(in_dims[i] is not None for i in unbatched):
        mapped = [front(x, dim) for x, dim in zip(tensors, in_dims, strict=True)]
        rows = [run(*(None if x is None else x[i] for x in mapped)) for i in range(size)]
        return _all_mapped(tuple(torch.stack(x) for x in zip(*rows, strict=True)))
    folded = [
        x if i in unbatched or x is None else front(x, dim).flatten(0, 1)  # type: ignore[union-attr]
        for i, (x, dim) in enumerate(zip(tensors, in_dims, strict=True))
    ]
    outputs = run(*folded)
    return _all_mapped(tuple(x.reshape(size, x.shape[0] // size, *x.shape[1:]) for x in outputs))


def _one(none: torch.Tensor) -> torch.Tensor:
    """Makes one element of zeros out of no elements."""
    return torch.cat((none, none.new_zeros((1, *none.shape[1:]))))


def _all_mapped(
    outputs: tuple[torch.Tensor, ...],
) -> tuple[tuple[torch.Tensor, ...], tuple[int, ...]]:
    return outputs, (0,) * len(outputs)
