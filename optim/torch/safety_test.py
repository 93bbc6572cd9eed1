"""A step touches its parameters' memory and no other; what does not fit is refused beforehand."""

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch

from kernels.dispatch import ENVIRONMENT_VARIABLE
from kernels.optimizer_step import contract
from optim.registry import ALGORITHMS, algorithm
from optim.torch.curvature import as_it_is
from optim.torch.optimizer import Optimizer

# Enough for state in 8 bits.
_SHAPE = (64, 80)

_BACKENDS = ("cpu", "reference")


def _started(*shapes: tuple[int, ...], **settings: Any) -> tuple[list[torch.Tensor], Optimizer]:
    """Parameters in two groups after a step, with gradients for another."""
    torch.manual_seed(0)
    params = [torch.randn(shape).requires_grad_() for shape in shapes]
    groups = [{"params": params[:1]}, {"params": params[1:]}]
    optimizer = Optimizer(groups, algorithm(**{"name": "adamw", **settings}))
    for _ in range(2):
        for param in params:
            param.grad = torch.randn(param.shape)
        optimizer.step()
    return params, optimizer


def _content(optimizer: Optimizer) -> list[Any]:
    params = [param for group in optimizer.param_groups for param in group["params"]]
    return [_bits(x) for param in params for x in (param, *optimizer.state.get(param, {}).values())]


def _bits(x: Any) -> Any:
    """What a tensor is and holds, if it holds anything."""
    if not isinstance(x, torch.Tensor):
        return x
    end = sum(stride * (size - 1) for stride, size in zip(x.stride(), x.shape, strict=True)) + 1
    has_memory = not x.is_meta and x.untyped_storage().nbytes() >= end * x.element_size()
    kind = (x.shape, x.stride(), x.dtype, x.device)
    if not has_memory:
        return kind
    dense = x.detach().clone(memory_format=torch.contiguous_format)
    return kind, dense.view(-1).view(torch.uint8).numpy().tobytes()


def _assert_refused(optimizer: Optimizer, error: type[Exception], message: str) -> None:
    """That nothing changes, in any group."""
    before = _content(optimizer)
    with pytest.raises(error, match=message):
        optimizer.step()
    assert _content(optimizer) == before


@pytest.mark.parametrize("name", ALGORITHMS)
@pytest.mark.parametrize("backend", _BACKENDS)
@pytest.mark.parametrize("size", [1000, 10**6])
def test_a_parameter_that_shrank_is_refused(
    name: str, backend: str, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, backend)
    memory = torch.ones(size)
    param = torch.nn.Parameter(memory)
    optimizer = Optimizer([param], algorithm(name))
    param.grad = torch.ones(size)
    optimizer.step()
    before = memory.clone()
    param.grad = None
    param.data = param.data[:10]
    param.grad = torch.ones(10)
    _assert_refused(optimizer, ValueError, r"shape \(10,\) on cpu has state of shape")
    assert torch.equal(memory, before)


def _set(change: Callable[[torch.Tensor], torch.Tensor]) -> Callable[..., None]:
    """Exchanges what a parameter is of, and gives it a gradient that fits."""

    def apply(param: torch.Tensor, _: Any) -> None:
        param.grad = None
        param.data = change(param.data)
        param.grad = torch.ones_like(param)

    return apply


def _set_keeping_the_gradient(
    change: Callable[[torch.Tensor], torch.Tensor],
) -> Callable[..., None]:
    def apply(param: torch.Tensor, _: Any) -> None:
        param.data = change(param.data)

    return apply


def _resize(param: torch.Tensor, _: Any) -> None:
    param.grad = None
    param.requires_grad_(False).resize_(3)
    param.grad = torch.ones(3)


def _free(param: torch.Tensor, _: Any) -> None:
    param.untyped_storage().resize_(0)


def _cut_storage(param: torch.Tensor, _: Any) -> None:
    param.untyped_storage().resize_(40)


def _state(key: str, change: Callable[[torch.Tensor], Any]) -> Callable[..., None]:
    def apply(_: Any, state: dict[str, Any]) -> None:
        state[key] = change(state[key])

    return apply


def _resize_state(_: Any, state: dict[str, torch.Tensor]) -> None:
    state["momentum"].resize_(5)


def _drop_state(_: Any, state: dict[str, torch.Tensor]) -> None:
    del state["second_moment"]


def _free_state(_: Any, state: dict[str, torch.Tensor]) -> None:
    state["momentum"] = state["momentum"].clone()
    state["momentum"].untyped_storage().resize_(0)


def _free_grad(param: torch.Tensor, _: Any) -> None:
    param.grad.untyped_storage().resize_(0)


def _cut_grad(param: torch.Tensor, _: Any) -> None:
    param.grad.untyped_storage().resize_(40)


_OTHER_STATE = "has state of shape"
_OTHER_GRAD = "has a gradient of shape"
_NO_MEMORY = "not in memory of its own"

_CHANGES: dict[str, tuple[Callable[..., None], type[Exception], str]] = {
    "smaller": (_set(lambda x: x[:10]), ValueError, _OTHER_STATE),
    "larger": (_set(lambda x: torch.cat([x, x])), ValueError, _OTHER_STATE),
    "transposed": (_set(lambda x: x.T), ValueError, _OTHER_STATE),
    "another shape": (_set(lambda x: x.view(x.shape[::-1])), ValueError, _OTHER_STATE),
    "one number": (_set(lambda x: x[0, 0]), ValueError, _OTHER_STATE),
    "of no weights": (_set(lambda x: x[:0]), ValueError, _OTHER_STATE),
    "resized in place": (_resize, ValueError, _OTHER_STATE),
    "expanded": (
        _set(lambda x: x[:1].expand(x.shape)), ValueError, _NO_MEMORY
    ),
    "overlapping windows": (
        _set(lambda x: x.as_strided(x.shape, (1, 1))), ValueError, _NO_MEMORY
    ),
    "freed": (_free, ValueError, _NO_MEMORY),
    "of a storage cut short": (_cut_storage, ValueError, _NO_MEMORY),
    "of other data than the gradient": (
        _set_keeping_the_gradient(lambda x: torch.cat([x, x])), ValueError, _OTHER_GRAD
    ),
    "of fewer data than the gradient": (
        _set_keeping_the_gradient(lambda x: x[:1]), ValueError, _OTHER_GRAD
    ),
    "gradient freed": (_free_grad, ValueError, "gradient whose memory was freed"),
    "gradient cut short": (_cut_grad, ValueError, "gradient whose memory was freed or cut"),
    "state smaller": (_state("momentum", lambda x: x[:5]), ValueError, _OTHER_STATE),
    "state larger": (_state("momentum", lambda x: torch.cat([x, x])), ValueError, _OTHER_STATE),
    "state resized in place": (_resize_state, ValueError, _OTHER_STATE),
    "state elsewhere": (_state("momentum", lambda x: x.to("meta")), ValueError, _OTHER_STATE),
    "state of whole numbers": (_state("momentum", lambda x: x.long()), ValueError, _OTHER_STATE),
    "state freed": (_free_state, ValueError, _NO_MEMORY),
    "state expanded": (
        _state("momentum", lambda x: x.flatten()[:1].expand(x.shape)), ValueError, _NO_MEMORY
    ),
    "state missing": (_drop_state, ValueError, "no tensor 'second_moment' in its state"),
    "state of no tensor": (_state("momentum", lambda _: 1.0), ValueError, "no tensor 'momentum'"),
    "step of no tensor": (_state("step", int), ValueError, "one number as 'step', got 2"),
    "step of no number": (_state("step", lambda x: x[None][:0]), ValueError, "one number as"),
    "step of many": (_state("step", lambda x: x.repeat(2)), ValueError, "one number as 'step'"),
    "step negative": (_state("step", lambda x: x - 9), ValueError, "a count of updates, got -7"),
    "step NaN": (_state("step", lambda x: x * torch.nan), ValueError, "count of updates, got nan"),
}  # fmt: skip


@pytest.mark.parametrize("state_bits", [32, 8])
@pytest.mark.parametrize("backend", _BACKENDS)
@pytest.mark.parametrize(("change", "error", "message"), _CHANGES.values(), ids=_CHANGES)
def test_what_changed_is_refused_and_no_group_touched(
    change: Callable[..., None],
    error: type[Exception],
    message: str,
    backend: str,
    state_bits: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, backend)
    params, optimizer = _started(_SHAPE, _SHAPE, state_bits=state_bits)
    change(params[1], optimizer.state[params[1]])
    _assert_refused(optimizer, error, message)


@pytest.mark.parametrize("what", ["param", "momentum"])
def test_a_storage_made_again_and_smaller_is_refused(what: str) -> None:
    """Mostly it is at the same address."""
    (param, _), optimizer = _started((1000,), (3,))
    storage = {"param": param, **optimizer.state[param]}[what].untyped_storage()
    for size in (0, 3900):
        storage.resize_(size)
    _assert_refused(optimizer, ValueError, _NO_MEMORY)


@pytest.mark.parametrize("backend", _BACKENDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("shapes", [((3, 4), (4, 3)), ((1,), ()), ((6,), (2, 3)), ((5,), (5, 1))])
def test_state_of_another_shape_with_as_many_values_is_refused(
    shapes: tuple[tuple[int, ...], ...],
    dtype: torch.dtype,
    backend: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, backend)
    (theirs, ours) = (torch.ones(shape, dtype=dtype, requires_grad=True) for shape in shapes)
    optimizers = [Optimizer([param], algorithm("adamw")) for param in (theirs, ours)]
    theirs.grad, ours.grad = torch.ones_like(theirs), torch.ones_like(ours)
    optimizers[0].step()
    optimizers[1].load_state_dict(optimizers[0].state_dict())
    message = f"parameter 0 of shape {shapes[1]} on cpu has state of shape {shapes[0]}"
    _assert_refused(optimizers[1], ValueError, re.escape(message))


@pytest.mark.parametrize("first_step", [True, False])
def test_no_state_is_left_where_a_later_group_is_refused(first_step: bool) -> None:
    table = torch.nn.Embedding(4, 3, sparse=True)
    dense = torch.ones(3, requires_grad=True)
    optimizer = Optimizer([{"params": [dense]}, {"params": [table.weight]}], algorithm("adamw"))
    dense.grad, table.weight.grad = torch.ones(3), torch.ones(4, 3)
    if not first_step:
        optimizer.step()
    table.weight.grad = None
    table(torch.tensor([1])).sum().backward()
    _assert_refused(optimizer, TypeError, "dense gradients, got torch.sparse_coo")
    assert bool(optimizer.state) != first_step


def test_an_estimate_of_curvature_is_checked_as_well() -> None:
    params, optimizer = _started(_SHAPE, _SHAPE, name="sophia")
    _set(lambda x: x[:10])(params[1], None)
    with optimizer.estimating_curvature(as_it_is):
        _assert_refused(optimizer, ValueError, r"shape \(10, 80\) on cpu has state of shape")
    params, optimizer = _started((3,), (3,), name="sophia")
    with optimizer.estimating_curvature(lambda grad: grad[:1]):
        _assert_refused(optimizer, ValueError, r"gradient's shape \(3,\), got \(1,\)")


@pytest.mark.parametrize("name", ALGORITHMS)
@pytest.mark.parametrize("backend", _BACKENDS)
def test_memory_in_common_is_updated_in_turn(
    name: str, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As by an optimizer for each parameter, one after the other; so does torch's own."""
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, backend)
    results = []
    for alone in (False, True):
        torch.manual_seed(0)
        memory = torch.randn(50_000)
        params = [memory[:30_000], memory[20_000:], memory[25_000:26_000]]
        params = [param.detach().requires_grad_() for param in params]
        groups = [[param] for param in params] if alone else [params]
        optimizers = [Optimizer(group, algorithm(name, learning_rate=0.1)) for group in groups]
        for _ in range(3):
            for param in params:
                param.grad = torch.randn(param.shape)
            for optimizer in optimizers:
                optimizer.step()
        results.append(memory)
    torch.testing.assert_close(*results, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", ALGORITHMS)
@pytest.mark.parametrize("backend", _BACKENDS)
def test_gradients_may_be_views(name: str, backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Expanded, overlapping, one for two parameters, or the weights themselves."""
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, backend)
    memory = torch.linspace(-1, 1, 20)
    shared = memory[:12].view(3, 4)
    results = []
    for copied in (False, True):
        params = [torch.arange(12.0).view(3, 4).requires_grad_() for _ in range(5)]
        optimizer = Optimizer(params, algorithm(name, learning_rate=0.1))
        for _ in range(3):
            views = [
                memory[:1].expand(3, 4),
                memory.as_strided((3, 4), (2, 1)),
                shared,
                shared,
                params[4].detach(),
            ]
            for param, view in zip(params, views, strict=True):
                param.grad = view.clone() if copied else view
            optimizer.step()
        results.append([param.detach() for param in params])
    for ours, expected in zip(*results, strict=True):
        assert torch.equal(ours, expected)


def test_tensors_without_memory_take_steps_without_effect() -> None:
    param = torch.ones(3, 4, device="meta", requires_grad=True)
    optimizer = Optimizer([param], algorithm("adamw"))
    for _ in range(2):
        param.grad = torch.ones(3, 4, device="meta")
        optimizer.step()
    assert optimizer.state[param]["momentum"].is_meta


def test_a_payload_is_of_the_shape_it_was_made_for() -> None:
    """5,000 and 5,010 weights have payloads of one length."""
    assert contract.CODEC.payload_bytes(5000) == contract.CODEC.payload_bytes(5010)
    (param, _), optimizer = _started((5010,), (3,), state_bits=8)
    _set(lambda x: x[:5000])(param, None)
    _assert_refused(optimizer, ValueError, r"shape \(5000,\) on cpu has state of shape \(5010,\)")


def test_state_may_grow_with_its_parameter() -> None:
    """As where rows are added to an embedding."""
    (param, _), optimizer = _started((3, 4), (2,))
    rows = torch.zeros(2, 4)
    _set(lambda x: torch.cat([x, rows]))(param, None)
    for slot in ("momentum", "second_moment"):
        optimizer.state[param][slot] = torch.cat([optimizer.state[param][slot], rows])
    before = param.detach().clone()
    optimizer.step()
    assert (param != before).all()
