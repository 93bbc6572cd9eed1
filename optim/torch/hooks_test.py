"""Schedulers, hooks and views of torch's work as they do with its own optimizers."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.optim import lr_scheduler
from torch.optim.swa_utils import SWALR

from kernels.dispatch import ENVIRONMENT_VARIABLE
from optim.registry import ALGORITHMS, algorithm
from optim.torch.optimizer import Optimizer

_SIZE, _STEPS = 7, 12

_SCHEDULERS: dict[str, Callable[[Any], Any]] = {
    "OneCycleLR": lambda o: lr_scheduler.OneCycleLR(
        o, max_lr=0.1, total_steps=40, cycle_momentum=False
    ),
    "CyclicLR": lambda o: lr_scheduler.CyclicLR(o, 0.01, 0.1, 3, cycle_momentum=False),
    "SWALR": lambda o: SWALR(o, swa_lr=0.05, anneal_epochs=5),
    "LambdaLR": lambda o: lr_scheduler.LambdaLR(o, lambda step: 0.9**step),
    "MultiplicativeLR": lambda o: lr_scheduler.MultiplicativeLR(o, lambda step: 0.9),
    "StepLR": lambda o: lr_scheduler.StepLR(o, 2),
    "MultiStepLR": lambda o: lr_scheduler.MultiStepLR(o, [2, 5]),
    "LinearLR": lambda o: lr_scheduler.LinearLR(o, total_iters=8),
    "ConstantLR": lambda o: lr_scheduler.ConstantLR(o, total_iters=8),
    "ExponentialLR": lambda o: lr_scheduler.ExponentialLR(o, 0.9),
    "PolynomialLR": lambda o: lr_scheduler.PolynomialLR(o, total_iters=20),
    "CosineAnnealingLR": lambda o: lr_scheduler.CosineAnnealingLR(o, 20),
    "CosineAnnealingWarmRestarts": lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 3),
    "ReduceLROnPlateau": lambda o: lr_scheduler.ReduceLROnPlateau(o, patience=0),
    "SequentialLR": lambda o: lr_scheduler.SequentialLR(
        o, [lr_scheduler.LinearLR(o), lr_scheduler.ExponentialLR(o, 0.9)], [3]
    ),
    "ChainedScheduler": lambda o: lr_scheduler.ChainedScheduler(
        [lr_scheduler.ConstantLR(o), lr_scheduler.ExponentialLR(o, 0.9)]
    ),
}


def _start(name: str, schedule: Callable[[Any], Any]) -> tuple[torch.Tensor, Optimizer, Any]:
    weight = torch.linspace(-1, 1, _SIZE).requires_grad_()
    optimizer = Optimizer([weight], algorithm(name, learning_rate=0.1, weight_decay=0.1))
    return weight, optimizer, schedule(optimizer)


def _train(weight: torch.Tensor, optimizer: Optimizer, scheduler: Any, start: int) -> None:
    for step in range(start, start + _STEPS // 2):
        weight.grad = torch.cos(torch.arange(_SIZE) * step)
        optimizer.step()
        # Without a metric's help all but one take none.
        is_plateau = isinstance(scheduler, lr_scheduler.ReduceLROnPlateau)
        scheduler.step(1.0) if is_plateau else scheduler.step()


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("schedule", _SCHEDULERS.values(), ids=_SCHEDULERS)
@pytest.mark.parametrize("name", ["adamw", "lion"])
def test_a_checkpoint_goes_on_under_every_scheduler(name: str, schedule: Any) -> None:
    weight, optimizer, scheduler = _start(name, schedule)
    _train(weight, optimizer, scheduler, 0)
    saved = copy.deepcopy((weight.detach(), optimizer.state_dict(), scheduler.state_dict()))
    _train(weight, optimizer, scheduler, _STEPS // 2)

    resumed, restored, other = _start(name, schedule)
    resumed.data = saved[0].clone()
    restored.load_state_dict(saved[1])
    other.load_state_dict(saved[2])
    _train(resumed, restored, other, _STEPS // 2)
    assert torch.equal(resumed, weight)
    # And into the optimizer that made it.
    optimizer.load_state_dict(saved[1])
    # And from its groups another is made.
    Optimizer(optimizer.param_groups, algorithm(name))


@pytest.mark.parametrize("replaced", [True, False])
def test_a_hook_before_loading_may_change_what_is_loaded(replaced: bool) -> None:
    """By returning another dict, or in place in the copy that it gets."""
    weight, optimizer, _ = _start("adamw", _SCHEDULERS["StepLR"])
    weight.grad = torch.ones(_SIZE)
    optimizer.step()
    saved = optimizer.state_dict()
    half = copy.deepcopy(saved)
    half["state"][0]["momentum"] *= 0.5
    half["param_groups"][0]["lr"] = 0.25
    foreign = {"model_of_another": saved}

    def translate(_: Any, given: dict[str, Any]) -> dict[str, Any] | None:
        if replaced:
            return copy.deepcopy(half)
        given.update(copy.deepcopy(half))
        return None

    optimizer.register_load_state_dict_pre_hook(translate)
    optimizer.load_state_dict(foreign)
    assert optimizer.param_groups[0]["lr"] == 0.25
    momentum = optimizer.state[weight]["momentum"]
    assert torch.equal(momentum, half["state"][0]["momentum"])


def test_what_a_hook_makes_is_checked_as_well() -> None:
    _, optimizer, _ = _start("adamw", _SCHEDULERS["StepLR"])
    _, lion, _ = _start("lion", _SCHEDULERS["StepLR"])
    optimizer.register_load_state_dict_pre_hook(lambda *_: lion.state_dict())
    with pytest.raises(ValueError, match="expected state of AdamW"):
        optimizer.load_state_dict(optimizer.state_dict())


def test_hooks_are_called_when_torch_calls_them() -> None:
    weight = torch.zeros(_SIZE, dtype=torch.bfloat16, requires_grad=True)
    optimizer = Optimizer([weight], algorithm("adamw"))
    calls: list[Any] = []

    def after_loading(own: Any) -> None:
        # The state is as it was saved by then, float32 for weights that are not.
        calls.append(own.state[weight]["momentum"].dtype)

    optimizer.register_step_pre_hook(lambda *_: calls.append("before step"))
    optimizer.register_step_post_hook(lambda *_: calls.append("after step"))
    optimizer.register_state_dict_pre_hook(lambda *_: calls.append("before saving"))
    optimizer.register_state_dict_post_hook(lambda _, made: {**made, "more": 1})
    optimizer.register_load_state_dict_pre_hook(lambda *_: calls.append("before loading"))
    optimizer.register_load_state_dict_post_hook(after_loading)
    weight.grad = torch.ones_like(weight)
    optimizer.step()
    saved = optimizer.state_dict()
    assert saved["more"] == 1
    for _ in range(2):
        optimizer.load_state_dict(saved)
    expected = ["before step", "after step", "before saving"]
    assert calls == expected + ["before loading", torch.float32] * 2


def test_a_step_pre_hook_may_replace_the_closure() -> None:
    weight = torch.zeros(1, requires_grad=True)
    optimizer = Optimizer([weight], algorithm("lion", learning_rate=1.0))
    weight.grad = torch.ones(1)
    optimizer.register_step_pre_hook(lambda own, args, kwargs: ((own, lambda: 42), {}))
    assert optimizer.step() == 42


_NEGATIVE_VIEWS = {
    "conj().imag": lambda x: torch.complex(torch.zeros_like(x), -x).conj().imag,
    "_neg_view": lambda x: torch._neg_view(-x),
}


@pytest.mark.parametrize("name", ALGORITHMS)
@pytest.mark.parametrize("backend", ["cpu", "reference"])
@pytest.mark.parametrize("state_bits", [32, 8])
@pytest.mark.parametrize("view", _NEGATIVE_VIEWS.values(), ids=_NEGATIVE_VIEWS)
def test_negative_views_are_what_they_stand_for(
    name: str, backend: str, state_bits: int, view: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Gradients, weights, both; and now and then."""
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, backend)
    start = torch.linspace(-1, 1, 4100)
    results = []
    for weight_is_view, views in [(False, ""), (False, "012345"), (True, ""), (True, "135")]:
        weight = (view(start) if weight_is_view else start.clone()).requires_grad_()
        assert weight.is_neg() == weight_is_view
        optimizer = Optimizer([weight], algorithm(name, learning_rate=0.1, state_bits=state_bits))
        for step in range(6):
            grad = torch.cos(torch.arange(4100) * step * 0.1)
            weight.grad = view(grad) if str(step) in views else grad
            optimizer.step()
        results.append(weight.detach().resolve_neg())
    torch.testing.assert_close(results[1], results[0], rtol=0, atol=0)
    for other in results[2:]:  # by the rule, whose square root is torch's
        torch.testing.assert_close(other, results[0], rtol=1e-4, atol=1e-5)


def test_the_gradient_of_a_conjugate_steps_the_right_way() -> None:
    for optimizer_of in (
        lambda w: Optimizer([w], algorithm("lion", learning_rate=0.5)),
        lambda w: torch.optim.SGD([w], lr=0.25),
    ):
        weight = torch.zeros(1, requires_grad=True)
        weight.grad = torch.tensor([1 + 2j]).conj().imag
        optimizer_of(weight).step()
        assert weight.item() == 0.5
