"""What torch expects of an optimizer, and what an optimizer refuses."""

import copy
import io
import pickle
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from kernels.dispatch import ENVIRONMENT_VARIABLE, UnsupportedKernelError
from optim.adamw import AdamW
from optim.lion import Lion
from optim.registry import ALGORITHMS, algorithm
from optim.sophia import Sophia
from optim.torch.curvature import as_it_is, gauss_newton_bartlett
from optim.torch.optimizer import Optimizer, decay_groups


def _model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 2))


def _train(model: nn.Module, optimizer: torch.optim.Optimizer, start: int, stop: int) -> None:
    for step in range(start, stop):
        inputs = torch.randn(8, 5, generator=torch.Generator().manual_seed(step))
        inputs = inputs.to(next(model.parameters()).dtype)
        optimizer.zero_grad()
        model(inputs).square().mean().backward()
        optimizer.step()


def _pickled(x: Any) -> Any:
    return pickle.loads(pickle.dumps(x))


def _saved(x: Any) -> Any:
    file = io.BytesIO()
    torch.save(x, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


@pytest.mark.parametrize("name", ALGORITHMS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("state_bits", [32, 8])
def test_goes_on_bit_for_bit_from_a_checkpoint(
    name: str, dtype: torch.dtype, state_bits: int, tmp_path: object
) -> None:
    settings = algorithm(name, weight_decay=0.1, state_bits=state_bits)

    def start() -> tuple[nn.Module, Optimizer]:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(5, 900), nn.Tanh(), nn.Linear(900, 2)).to(dtype)
        return model, Optimizer(decay_groups(model), settings)

    whole, optimizer = start()
    _train(whole, optimizer, 0, 20)

    model, optimizer = start()
    _train(model, optimizer, 0, 9)
    path = f"{tmp_path}/checkpoint.pt"
    torch.save((model.state_dict(), optimizer.state_dict()), path)
    weights, state = torch.load(path, weights_only=True)
    resumed = nn.Sequential(nn.Linear(5, 900), nn.Tanh(), nn.Linear(900, 2)).to(dtype)
    resumed.load_state_dict(weights)
    restored = Optimizer(decay_groups(resumed), algorithm(name, state_bits=state_bits))
    restored.load_state_dict(state)
    _train(resumed, restored, 9, 20)
    kinds = {restored.state[p][slot].dtype for p in resumed.parameters() for slot in settings.slots}
    assert kinds == ({torch.float32, torch.uint8} if state_bits == 8 else {torch.float32})
    for a, b in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("way", [copy.deepcopy, _pickled, _saved])
def test_a_copy_goes_on_as_the_original(way: Callable[[Any], Any]) -> None:
    model = _model()
    optimizer = Optimizer(decay_groups(model), Lion(weight_decay=0.1))
    _train(model, optimizer, 0, 5)
    other, copied = way((model, optimizer))
    _train(model, optimizer, 5, 10)
    _train(other, copied, 5, 10)
    for a, b in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("fused", [False, True])
def test_adamw_is_that_of_torch(fused: bool) -> None:
    ours, theirs = _model(), _model()
    settings = AdamW(learning_rate=1e-2, beta2=0.99, weight_decay=0.1)
    _train(ours, Optimizer(ours.parameters(), settings), 0, 50)
    peer = torch.optim.AdamW(
        theirs.parameters(), lr=1e-2, betas=(0.9, 0.99), weight_decay=0.1, fused=fused
    )
    _train(theirs, peer, 0, 50)
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


def test_vectors_do_not_decay() -> None:
    model = _model()
    before = copy.deepcopy(model)
    for param in model.parameters():
        param.grad = torch.zeros_like(param)
    Optimizer(decay_groups(model), AdamW(learning_rate=0.5, weight_decay=0.1)).step()
    for name, param in model.named_parameters():
        factor = 0.95 if name.endswith("weight") else 1.0
        torch.testing.assert_close(param, factor * before.get_parameter(name))


def test_groups_replace_hyperparameters() -> None:
    a, b = (torch.ones(1, requires_grad=True) for _ in range(2))
    optimizer = Optimizer([{"params": [a]}, {"params": [b], "lr": 0.25}], Lion(learning_rate=0.5))
    a.grad, b.grad = torch.ones(1), torch.ones(1)
    optimizer.step()
    assert (a.item(), b.item()) == (0.5, 0.75)


def test_a_scheduler_of_torch_sets_the_rate() -> None:
    weight = torch.zeros(1, requires_grad=True)
    optimizer = Optimizer([weight], Lion(learning_rate=1.0))
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5**step)
    for _ in range(3):
        weight.grad = torch.ones(1)
        optimizer.step()
        scheduler.step()
    assert weight.item() == -1.75


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_state_of_narrow_parameters_is_float32(dtype: torch.dtype) -> None:
    weight = torch.ones(4, dtype=dtype, requires_grad=True)
    optimizer = Optimizer([weight], AdamW())
    weight.grad = torch.ones(4, dtype=dtype)
    optimizer.step()
    assert weight.dtype == dtype
    assert {optimizer.state[weight][slot].dtype for slot in AdamW.slots} == {torch.float32}


def test_an_overflow_skips_the_step() -> None:
    weight = torch.ones(2, requires_grad=True)
    optimizer = Optimizer([weight], AdamW())
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    scaler.scale((weight * torch.tensor([1.0, torch.inf])).sum()).backward()
    scaler.step(optimizer)
    scaler.update()
    assert torch.equal(weight, torch.ones(2))
    assert not optimizer.state[weight]
    assert scaler.get_scale() == 4.0


def test_curvature_leaves_weights_alone_and_is_used_by_the_next_step() -> None:
    weight = torch.ones(2, requires_grad=True)
    settings = Sophia(learning_rate=1.0, weight_decay=0.0, beta1=0.0, beta2=0.5, gamma=1.0)
    optimizer = Optimizer([weight], settings)
    weight.grad = torch.tensor([1.0, 2.0])
    with optimizer.estimating_curvature(gauss_newton_bartlett(4)):
        optimizer.step()
    assert torch.equal(weight, torch.ones(2))
    assert torch.equal(optimizer.state[weight]["curvature"], torch.tensor([2.0, 8.0]))
    weight.grad = torch.tensor([1.0, 16.0])
    optimizer.step()
    assert torch.equal(weight.detach(), torch.tensor([0.5, 0.0]))
    assert optimizer.fractions() == {"clipped": 0.5}


def test_nothing_is_clipped_before_the_first_step() -> None:
    weight = torch.ones(2, requires_grad=True)
    optimizer = Optimizer([weight], Sophia())
    weight.grad = torch.ones(2)
    with optimizer.estimating_curvature(as_it_is):
        optimizer.step()
    with pytest.raises(ValueError, match="no step was made"):
        optimizer.fractions()


def test_only_sophia_has_curvature() -> None:
    weight = torch.ones(1, requires_grad=True)
    optimizer = Optimizer([weight], Lion())
    with pytest.raises(TypeError, match="Lion has no curvature"):
        optimizer.estimating_curvature(as_it_is).__enter__()
    weight.grad = torch.ones(1)
    optimizer.step()
    assert optimizer.fractions() == {}


def test_refuses_sparse_gradients_before_any_step() -> None:
    dense = torch.ones(3, requires_grad=True)
    table = nn.Embedding(4, 3, sparse=True)
    before = dense.detach().clone()
    (table(torch.tensor([1])).sum() + dense.sum()).backward()
    with pytest.raises(TypeError, match=r"dense gradients, got torch.sparse_coo .* \(4, 3\)"):
        Optimizer([dense, table.weight], AdamW()).step()
    assert torch.equal(dense, before)


def test_gradients_are_not_kept() -> None:
    weight = torch.ones(4, requires_grad=True)
    optimizer = Optimizer([weight], AdamW())
    for _ in range(2):
        weight.grad = torch.ones(4)
        kept = weakref.ref(weight.grad)
        optimizer.step()
        optimizer.zero_grad()
        assert kept() is None


def test_tensors_may_be_exchanged_between_steps() -> None:
    """Each by one of the same values, as offloading and swapping do."""
    runs = []
    for exchanges in (False, True):
        model = _model()
        optimizer = Optimizer(model.parameters(), AdamW(learning_rate=0.1))
        for step in range(6):
            _train(model, optimizer, step, step + 1)
            weight = next(model.parameters())
            state = optimizer.state[weight]
            if exchanges and step % 2:
                weight.data = weight.data.clone()
                state["momentum"] = state["momentum"].clone()
            elif exchanges:
                state["second_moment"].data = state["second_moment"].clone()
        runs.append([param.detach() for param in model.parameters()])
    for ours, expected in zip(*runs, strict=True):
        assert torch.equal(ours, expected)


def test_a_parameter_may_miss_steps() -> None:
    weights = [torch.ones(3, requires_grad=True) for _ in range(3)]
    optimizer = Optimizer(weights, Lion(learning_rate=1.0))
    for present in ((0, 1, 2), (0, 2), (0, 2), (0, 1, 2)):
        for place, weight in enumerate(weights):
            weight.grad = torch.ones(3) if place in present else None
        optimizer.step()
    assert [weight[0].item() for weight in weights] == [-3.0, -1.0, -3.0]


@pytest.mark.parametrize("state_bits", [32, 8])
def test_a_checkpoint_of_another_model_is_refused(state_bits: int) -> None:
    def of(size: int) -> tuple[torch.Tensor, Optimizer]:
        weight = torch.ones(size, requires_grad=True)
        weight.grad = torch.ones(size)
        optimizer = Optimizer([weight], AdamW(state_bits=state_bits))
        optimizer.step()
        return weight, optimizer

    _, small = of(5000)
    weight, large = of(6000)
    large.load_state_dict(small.state_dict())
    before = weight.detach().clone()
    with pytest.raises(ValueError, match=r"shape \(6000,\) on cpu has state of shape"):
        large.step()
    assert torch.equal(weight, before)


def test_state_follows_a_change_of_dtype() -> None:
    weight = torch.ones(8, dtype=torch.float64, requires_grad=True)
    optimizer = Optimizer([weight], AdamW(learning_rate=0.5))
    for dtype in (torch.float64, torch.float32):
        weight.data = weight.data.to(dtype)
        weight.grad = torch.ones(8, dtype=dtype)
        optimizer.step()
    torch.testing.assert_close(weight.detach(), torch.zeros(8), atol=1e-6, rtol=0)


def test_a_checkpoint_of_another_algorithm_is_refused() -> None:
    def of(name: str) -> tuple[torch.Tensor, Optimizer]:
        weight = torch.ones(4, requires_grad=True)
        weight.grad = torch.ones(4)
        optimizer = Optimizer([weight], algorithm(name))
        optimizer.step()
        return weight, optimizer

    for theirs in ALGORITHMS:
        for ours in ALGORITHMS:
            _, optimizer = of(ours)
            before = copy.deepcopy(optimizer.state_dict())
            saved = of(theirs)[1].state_dict()
            if ours == theirs:
                optimizer.load_state_dict(saved)
                continue
            with pytest.raises(
                ValueError, match=f"expected state of {type(optimizer.algorithm).__name__}"
            ):
                optimizer.load_state_dict(saved)
            assert str(optimizer.state_dict()) == str(before)


def test_a_loaded_snapshot_stays_as_it_is() -> None:
    model = _model()
    optimizer = Optimizer(model.parameters(), AdamW())
    _train(model, optimizer, 0, 3)
    snapshot = copy.deepcopy(optimizer.state_dict())
    expected = copy.deepcopy(snapshot)
    optimizer.load_state_dict(snapshot)
    _train(model, optimizer, 3, 6)
    for number, state in expected["state"].items():
        for key, value in state.items():
            assert torch.equal(snapshot["state"][number][key], value)


def test_groups_of_a_scheduled_optimizer_make_another() -> None:
    weight = torch.zeros(1, requires_grad=True)
    first = Optimizer([weight], Lion(learning_rate=1.0))
    torch.optim.lr_scheduler.LambdaLR(first, lambda step: 0.5**step)
    assert Optimizer(first.param_groups, Lion()).param_groups[0]["lr"] == 1.0


@pytest.mark.parametrize("name", ALGORITHMS)
@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_a_gradient_that_is_no_number_spoils_its_weight_and_no_other(
    name: str, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, backend)
    weight = torch.zeros(100, requires_grad=True)
    optimizer = Optimizer([weight], algorithm(name))
    weight.grad = torch.ones(100)
    weight.grad[7] = torch.nan
    optimizer.step()
    assert weight.isnan().nonzero().flatten().tolist() == [7]


def test_no_backend_has_such_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, "tritn")
    weight = torch.zeros(1, requires_grad=True)
    weight.grad = torch.ones(1)
    with pytest.raises(UnsupportedKernelError, match="must be one of cpu, .* got 'tritn'"):
        Optimizer([weight], Lion()).step()


@pytest.mark.parametrize(
    ("group", "error", "message"),
    [
        ({"betas": (0.9, 0.99)}, ValueError, r"unknown keys \['betas'\]; accepted: beta1, "),
        ({"beta1": 1.0}, ValueError, "less than 1"),
        ({"lr": -1.0}, ValueError, "greater than or equal to 0"),
        ({"lr": 10**400}, ValueError, "valid number"),
        ({"lr": torch.tensor(1.0, device="meta")}, ValueError, "bad lr, tensor.* valid number"),
    ],
)
def test_refuses_a_bad_group(group: dict, error: type[Exception], message: str) -> None:
    weight = torch.ones(1, requires_grad=True)
    with pytest.raises(error, match=message):
        Optimizer([{"params": [weight], **group}], AdamW())


@pytest.mark.parametrize("make", [lambda: torch.ones(1, dtype=torch.complex64)])
def test_refuses_parameters_that_are_not_real(make: Callable[[], torch.Tensor]) -> None:
    with pytest.raises(TypeError, match="real floating-point parameters, got torch.complex64"):
        Optimizer([make().requires_grad_()], AdamW())


@pytest.mark.parametrize("given", ["lion", Lion, None])
def test_refuses_what_is_no_algorithm(given: Any) -> None:
    with pytest.raises(TypeError, match=r"such as Lion\(\), got"):
        Optimizer([torch.ones(1, requires_grad=True)], given)


def test_paused_it_changes_nothing() -> None:
    param = torch.nn.Parameter(torch.ones(3))
    optimizer = Optimizer([param], AdamW(weight_decay=0.1))
    param.grad = torch.full((3,), float("nan"))
    with optimizer.paused():
        optimizer.step()
    assert torch.equal(param.detach(), torch.ones(3))
    assert not optimizer.state
    param.grad = torch.ones(3)
    optimizer.step()
    assert optimizer.state[param]["step"] == 1
