"""What may stand in a parameter group: checked hyperparameters, and keys of whoever put them."""

import copy
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch.optim import lr_scheduler

from optim.adamw import AdamW
from optim.lion import Lion
from optim.registry import ALGORITHMS, algorithm
from optim.torch.optimizer import Optimizer


def _two_groups(name: str = "adamw") -> tuple[list[torch.Tensor], Optimizer]:
    params = [torch.ones(3, requires_grad=True) for _ in range(2)]
    optimizer = Optimizer([{"params": [param]} for param in params], algorithm(name))
    for param in params:
        param.grad = torch.ones(3)
    optimizer.step()
    return params, optimizer


_BAD_RATES = [-1, -1e-3, math.nan, math.inf, -math.inf, True, "0.1", None, 1j, [0.1]]
_BAD_RATES += [np.float32(-1), np.bool_(True), torch.tensor(-1.0), torch.tensor(math.nan)]
_BAD_RATES += [torch.ones(2), torch.tensor(True), np.ones(2)]

_BAD = [("lr", value) for value in _BAD_RATES]
_BAD += [("beta1", value) for value in (1.0, -0.1, math.nan, "0.9", True)]
_BAD += [("beta2", 1.0), ("beta2", torch.tensor(2.0)), ("beta2", None)]
_BAD += [("epsilon", value) for value in (0.0, -1e-8, math.inf)]
_BAD += [("weight_decay", value) for value in (-0.1, math.nan, math.inf, "none")]
_BAD += [("state_bits", value) for value in (4, 8.5, True, "8")]


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        (name, key, value)
        for name, kind in ALGORITHMS.items()
        for key, value in _BAD
        if key == "lr" or key in kind.model_fields
    ],
)
def test_what_is_set_between_steps_is_checked_before_anything_changes(
    name: str, key: str, value: Any
) -> None:
    params, optimizer = _two_groups(name)
    optimizer.param_groups[1][key] = value
    before = copy.deepcopy([*params, *(optimizer.state[param] for param in params)])
    with pytest.raises(ValueError, match=rf"parameter group 1 has a bad {key}, "):
        optimizer.step()
    assert str(before) == str([*params, *(optimizer.state[param] for param in params)])


@pytest.mark.parametrize(("key", "value"), _BAD, ids=lambda x: repr(x).replace("\n", " "))
def test_what_is_added_or_loaded_is_checked_before_anything_changes(key: str, value: Any) -> None:
    _, optimizer = _two_groups()
    before = copy.deepcopy(optimizer.state_dict())
    with pytest.raises(ValueError, match=f"parameter group 2 has a bad {key}, "):
        optimizer.add_param_group({"params": [torch.ones(1, requires_grad=True)], key: value})
    saved = copy.deepcopy(before)
    saved["param_groups"][1][key] = value
    with pytest.raises(ValueError, match=f"parameter group 1 has a bad {key}, "):
        optimizer.load_state_dict(saved)
    assert str(optimizer.state_dict()) == str(before)


def test_the_message_says_what_is_accepted() -> None:
    _, optimizer = _two_groups()
    optimizer.param_groups[1]["lr"] = -1
    message = "group 1 has a bad lr, -1: Input should be greater than or equal to 0"
    with pytest.raises(ValueError, match=message):
        optimizer.step()


def test_a_hyperparameter_that_was_taken_away_is_named() -> None:
    _, optimizer = _two_groups()
    del optimizer.param_groups[1]["lr"]
    with pytest.raises(ValueError, match="parameter group 1 has no lr"):
        optimizer.step()


_RATES = [0.5, 1, 0, np.float32(0.5), np.float64(0.5), np.float16(0.5), np.int64(1)]
_RATES += [np.array(0.5), np.array([0.5]), torch.tensor(0.5), torch.tensor([0.5])]
_RATES += [torch.tensor(0.5, dtype=torch.bfloat16), torch.tensor(1)]


@pytest.mark.parametrize("rate", _RATES, ids=repr)
def test_numbers_of_every_library_are_rates(rate: Any) -> None:
    """As in torch, whose own optimizers take tensors of one number."""
    expected = float(torch.as_tensor(rate))
    weight = torch.zeros(1, requires_grad=True)
    optimizers = [
        Optimizer([weight], Lion(learning_rate=rate)),
        Optimizer([{"params": [weight], "lr": rate}], Lion()),
        Optimizer([weight], Lion()),
    ]
    optimizers[-1].param_groups[0]["lr"] = rate
    for optimizer in optimizers:
        before = weight.item()
        weight.grad = torch.ones(1)
        optimizer.step()
        assert weight.item() == before - expected


def test_a_scheduler_fills_a_rate_that_is_a_tensor() -> None:
    weight = torch.zeros(1, requires_grad=True)
    optimizer = Optimizer([{"params": [weight], "lr": torch.tensor(1.0)}], Lion())
    scheduler = lr_scheduler.LambdaLR(optimizer, lambda step: 0.5**step)
    for _ in range(3):
        weight.grad = torch.ones(1)
        optimizer.step()
        scheduler.step()
    assert weight.item() == -1.75
    assert optimizer.param_groups[0]["lr"].item() == 0.125


def test_a_group_that_is_refused_is_not_added() -> None:
    _, optimizer = _two_groups()
    with pytest.raises(TypeError, match="real floating-point parameters, got torch.complex64"):
        optimizer.add_param_group({"params": torch.ones(1, dtype=torch.complex64)})
    assert len(optimizer.param_groups) == 2
    optimizer.step()


def test_keys_of_users_are_theirs() -> None:
    weight = torch.zeros(2, requires_grad=True)
    own = {"name": "head", "lr_scale": 0.5, "tag": {"layer": 3}, "min_lr": 0.1, "frozen": True}
    optimizer = Optimizer([{"params": [weight], **own}], AdamW())
    optimizer.param_groups[0]["seen"] = [1, 2]
    weight.grad = torch.ones(2)
    optimizer.step()
    other = Optimizer([weight], AdamW())
    other.load_state_dict(optimizer.state_dict())
    other.step()
    assert own.items() <= other.param_groups[0].items()
    assert other.param_groups[0]["seen"] == [1, 2]


@pytest.mark.parametrize(
    "key", ["betas", "eps", "learning_rate", "weight_deacy", "beta_1", "rectify", "gamma", "decay"]
)
def test_keys_that_look_like_hyperparameters_are_refused(key: str) -> None:
    weight = torch.ones(1, requires_grad=True)
    with pytest.raises(ValueError, match=rf"unknown keys \['{key}'\]; accepted: beta1, beta2, eps"):
        Optimizer([{"params": [weight], key: 1.0}], AdamW())
