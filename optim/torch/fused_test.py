"""The fused step against the rule as it is written: every bit of weights and state.

But that PyTorch's square root is off by one bit in 0.6% of numbers, so the rule gets an exact one.
"""

import copy
from typing import Any

import numpy as np
import pytest
import torch

from kernels.dispatch import ENVIRONMENT_VARIABLE
from kernels.optimizer_step import _native, contract
from kernels.optimizer_step.torch_op import Counters
from optim.adabelief import AdaBelief
from optim.adan import Adan
from optim.algorithm import Algorithm
from optim.registry import ALGORITHMS
from optim.sophia import Sophia
from optim.torch.curvature import as_it_is
from optim.torch.optimizer import Optimizer

# Of each tensor: around a vector, a block and a task, and two that are stored in bytes if asked.
_SHAPES = [(), (1,), (15,), (17,), (255,), (3, 100), (0,), (70, 71), (40_000,)]

_VARIANTS: list[Algorithm] = [
    *(kind(weight_decay=0.1) for kind in ALGORITHMS.values()),
    AdaBelief(rectify=True),
    Adan(decay="decoupled", weight_decay=0.1),
]


def _train(
    algorithm: Algorithm, dtype: torch.dtype, num_steps: int = 7, make: Any = torch.randn
) -> list[torch.Tensor]:
    """Returns the weights and all of the state."""
    torch.manual_seed(0)
    params = [make(shape).to(dtype).requires_grad_() for shape in _SHAPES]
    optimizer = Optimizer(
        [{"params": params[::2]}, {"params": params[1::2], "weight_decay": 0.0, "lr": 0.02}],
        algorithm,
    )
    for step in range(num_steps):
        for index, param in enumerate(params):
            # One comes late, so that its step is another.
            if index != 4 or step > 2:
                param.grad = (torch.randn(param.shape) * 10.0 ** -(index % 5)).to(dtype)
        if algorithm.wants_curvature(step):
            with optimizer.estimating_curvature(as_it_is):
                optimizer.step()
        optimizer.step()
    state = [optimizer.state[p][slot] for p in params for slot in algorithm.slots]
    return [*(param.detach() for param in params), *state]


@pytest.mark.parametrize("algorithm", _VARIANTS, ids=lambda a: a.name)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("state_bits", [32, 8])
def test_is_the_rule_bit_for_bit(
    algorithm: Algorithm, dtype: torch.dtype, state_bits: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    algorithm = algorithm.model_copy(update={"state_bits": state_bits})
    ours = _train(algorithm, dtype)
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, "reference")
    monkeypatch.setattr(torch, "sqrt", lambda x: x.double().pow(0.5).float())
    rule = _train(algorithm, dtype)
    assert {x.dtype for x in ours} >= ({torch.uint8} if state_bits == 8 else {dtype})
    for a, b in zip(ours, rule, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


@pytest.mark.parametrize("state_bits", [32, 8])
def test_any_number_of_threads_gives_the_same(state_bits: int) -> None:
    algorithm = ALGORITHMS["adan"](state_bits=state_bits)
    before = torch.get_num_threads()
    results = []
    for num_threads in (1, 2):
        torch.set_num_threads(num_threads)
        results.append(_train(algorithm, torch.float32))
    torch.set_num_threads(before)
    for a, b in zip(*results, strict=True):
        assert torch.equal(a, b)


def test_any_order_of_memory_gives_the_same() -> None:
    """Contiguous, channels last, unaligned, and strided, which no kernel takes."""
    start, grads = torch.randn(8, 16, 3, 3), [torch.randn(8, 16, 3, 3) for _ in range(3)]

    def unaligned(x: torch.Tensor) -> torch.Tensor:
        memory = torch.empty(x.numel() + 1)
        return memory[1:].view(x.shape).copy_(x)

    def strided(x: torch.Tensor) -> torch.Tensor:
        return torch.empty(*x.shape[:3], 6)[..., ::2].copy_(x)

    def last(x: torch.Tensor) -> torch.Tensor:
        return x.contiguous(memory_format=torch.channels_last)

    results = []
    for lay_weights, lay_grads in [
        (torch.clone, torch.clone),
        (unaligned, unaligned),
        (last, last),
        (last, torch.clone),
        (strided, strided),
    ]:
        weight = lay_weights(start).requires_grad_()
        optimizer = Optimizer([weight], ALGORITHMS["adamw"]())
        for grad in grads:
            weight.grad = lay_grads(grad)
            optimizer.step()
        results.append(weight.detach())
    for other in results[1:]:
        assert torch.equal(results[0], other)


def test_bytes_are_in_one_order_whatever_that_of_the_weights() -> None:
    start, grads = torch.randn(8, 64, 3, 3), [torch.randn(8, 64, 3, 3) for _ in range(4)]
    results = []
    for order in (torch.contiguous_format, torch.channels_last):
        weight = start.contiguous(memory_format=order).clone().requires_grad_()
        optimizer = Optimizer([weight], Sophia(learning_rate=0.1, gamma=1.0, state_bits=8))
        for grad in grads:
            weight.grad = grad.contiguous(memory_format=order)
            with optimizer.estimating_curvature(as_it_is):
                optimizer.step()
            optimizer.step()
        assert optimizer.state[weight]["momentum"].dtype == torch.uint8
        results.append(weight.detach())
    assert torch.equal(*results)


def test_subnormal_numbers_are_kept_whatever_the_caller_does_with_them() -> None:
    def run() -> torch.Tensor:
        weight = torch.zeros(64, requires_grad=True)
        weight.grad = torch.full((64,), 2e-38)
        optimizer = Optimizer([weight], ALGORITHMS["lion"]())
        optimizer.step()
        return optimizer.state[weight]["momentum"]

    kept = run()
    assert (kept > 0).all()
    torch.set_flush_denormal(True)
    flushed_by_caller = run()
    torch.set_flush_denormal(False)
    assert torch.equal(kept, flushed_by_caller)


def test_the_contract_names_what_the_algorithms_have() -> None:
    assert contract.RULES.keys() == ALGORITHMS.keys()
    for name, rule in contract.RULES.items():
        algorithm = ALGORITHMS[name]()
        assert set(rule.hyperparameters) <= type(algorithm).model_fields.keys()
        assert set(rule.scalars) == algorithm.scalars(np, 1).keys()


_ENOUGH = (64, 4096)


def _row(size: int, dtype: int = 2, has_bytes: int = 0, **arrays: tuple[int, int]) -> list[int]:
    """Of a tensor of Lion's, whose arrays are somewhere, and of so many bytes."""
    pairs = [arrays.get(name, _ENOUGH) for name in ("param", "grad", "slot")]
    return [size, dtype, has_bytes, 1, 0, *(number for pair in pairs for number in pair)]


@pytest.mark.parametrize("count", [float("nan"), -1.0, float("inf"), 2.0**31])
def test_the_native_code_reads_counts_only(count: float) -> None:
    counters = torch.tensor([3.0, count])
    addresses = [x.data_ptr() for x in counters]
    assert _native.read_counters(addresses[:1]) == [3]
    with pytest.raises(ValueError, match="a step must be a count of updates, got "):
        _native.read_counters(addresses)
    with pytest.raises(ValueError, match="a step must be a count of updates, got "):
        Counters([*counters.double()]).read()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rule": 9}, "no rule has the number 9"),
        ({"scalars": [1.0]}, "scalars must be as many as the rule takes, got 1"),
        ({"hyperparameters": []}, "hyperparameters must be as many as the rule takes, got 0"),
        ({"rows": [1, 2]}, "rows must have 11 numbers each, got 2 in all"),
        ({"rows": _row(-1)}, "size must not be negative, got -1"),
        ({"rows": _row(10, dtype=3)}, "dtype must be 0, 1 or 2, got 3"),
        ({"rows": _row(10, param=(64, 39))}, "an array must have 40 bytes, got 39"),
        ({"rows": _row(10, grad=(64, 39))}, "an array must have 40 bytes, got 39"),
        ({"rows": _row(10, slot=(64, 39))}, "an array must have 40 bytes, got 39"),
        ({"rows": _row(10, dtype=0, grad=(64, 19))}, "an array must have 20 bytes, got 19"),
        ({"rows": _row(10, has_bytes=1, slot=(64, 271))}, "an array must have 272 bytes, got 271"),
        ({"rows": _row(10, grad=(0, 40))}, "an array must have 40 bytes, got 0"),
    ],
)
def test_the_native_code_refuses_ill_formed_calls(change: dict[str, Any], message: str) -> None:
    call = {
        "rule": contract.RULE_NAMES.index("lion"),
        "decay_is_proximal": False,
        "step": 1,
        "rate": 1.0,
        "weight_decay": 0.0,
        "hyperparameters": [0.9, 0.99],
        "scalars": [],
        "rows": [],
    }
    _native.step_cpu(**call)
    with pytest.raises(ValueError, match=message):
        _native.step_cpu(**(copy.copy(call) | change))
