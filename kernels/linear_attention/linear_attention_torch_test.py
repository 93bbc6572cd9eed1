"""Linear attention as a PyTorch operator: states, layouts and errors.

linear_attention_derivatives_torch_test.py has its gradients, kernels/compile_test.py its
compilation.
"""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.dispatch import UnsupportedKernelError
from kernels.linear_attention import cases, torch_op
from kernels.linear_attention.contract import Options, Sizes, State
from kernels.linear_attention.shapes import FEATURES
from kernels.testing.accuracy import sum_dtype, through_torch

# float64 sums in another order.
TIGHT = {"rtol": 1e-10, "atol": 1e-10}

FORMS: dict[str, dict[str, Any]] = {
    "elu": {},
    "relu": {"feature_map": "relu", "eps": 0.5},
    "retnet": {"feature_map": "identity", "normalize": False},
    "scaled": {"normalize": False, "scale": 0.3},
}


def _tensors(
    q_shape: tuple[int, ...] = (2, 5, 4, 6),
    k_shape: tuple[int, ...] = (2, 5, 2, 6),
    v_shape: tuple[int, ...] = (2, 5, 2, 3),
    dtype: torch.dtype = torch.float64,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return tuple(
        torch.randn(shape, generator=generator, dtype=dtype).requires_grad_()
        for shape in (q_shape, k_shape, v_shape)
    )


def _decay(num_heads: int = 4) -> torch.Tensor:
    return torch.linspace(0.5, 1.0, num_heads, dtype=torch.float64).requires_grad_()


def _state() -> State:
    generator = torch.Generator().manual_seed(1)
    kv = torch.rand((2, 4, 6, 3), generator=generator, dtype=torch.float64)
    k_sum = torch.rand((2, 4, 6), generator=generator, dtype=torch.float64)
    return State(kv.requires_grad_(), k_sum.requires_grad_())


def test_gradcheck_of_the_form_that_is_not_causal() -> None:
    def run(q, k, v, kv, k_sum):  # type: ignore[no-untyped-def]
        out, state = torch_op.linear_attention(
            q, k, v, causal=False, initial_state=State(kv, k_sum), return_state=True
        )
        return out, *state

    assert torch.autograd.gradcheck(run, (*_tensors(), *_state()))


@pytest.mark.parametrize("wanted", ["kv", "k_sum"])
def test_gradient_of_half_a_state(wanted: str) -> None:
    tensors = _tensors()

    def run(*tensors: torch.Tensor) -> torch.Tensor:
        _, state = torch_op.linear_attention(*tensors, return_state=True)
        return getattr(state, wanted)

    assert torch.autograd.gradcheck(run, tensors)


# The sums are of the dtype, and of another.
@pytest.mark.parametrize(
    ("wants_state", "dtype"), [(False, torch.float64), (True, torch.bfloat16)], ids=str
)
def test_operators_are_well_formed(wants_state: bool, dtype: torch.dtype) -> None:
    q, k, v = _tensors(dtype=dtype)
    sums = sum_dtype(dtype)
    decay = _decay().detach().to(sums).expand(2, 4).contiguous().requires_grad_()
    state = tuple(x.detach().to(sums).requires_grad_() for x in _state())
    options = (*Options(), "cpu")
    inputs = (q, k, v, decay, *state)
    forward = torch.ops.hpc.linear_attention_forward
    torch.library.opcheck(forward.default, (*inputs, wants_state, *options))
    detached = [x.detach() for x in inputs]
    out, factor, *_ = forward(*detached, wants_state, *options)
    torch.library.opcheck(
        torch.ops.hpc.linear_attention_backward.default,
        (*detached, out, factor, torch.ones_like(out), None, None, True, True, *options),
    )


@pytest.mark.parametrize(
    "dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16], ids=str
)
@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS.keys())
def test_steps_are_the_sequence(form: dict[str, Any], dtype: torch.dtype) -> None:
    q, k, v = (x.detach() for x in _tensors((2, 150, 4, 8), (2, 150, 2, 8), (2, 150, 2, 6), dtype))
    decay = _decay().detach()
    want, after = torch_op.linear_attention(q, k, v, decay=decay, return_state=True, **form)
    state, outs = None, []
    for i in range(q.shape[1]):
        out, state = torch_op.linear_attention_step(
            state, q[:, i], k[:, i], v[:, i], decay=decay, **form
        )
        outs.append(out)
    torch.testing.assert_close(torch.stack(outs, dim=1), want)
    torch.testing.assert_close(state, after, rtol=1e-5, atol=1e-5)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    seq_len=st.integers(0, 200),
    split=st.floats(0, 1),
    form=st.sampled_from(sorted(FORMS)),
    causal=st.booleans(),
)
def test_state_hands_over_at_any_token(seq_len: int, split: float, form: str, causal: bool) -> None:
    tensors = _tensors((1, seq_len, 2, 5), (1, seq_len, 1, 5), (1, seq_len, 1, 4))
    q, k, v = (x.detach() for x in tensors)
    decay = _decay(2).detach() if causal else None
    options = {"causal": causal, "decay": decay, "return_state": True, **FORMS[form]}
    cut = round(split * seq_len)
    want, after = torch_op.linear_attention(q, k, v, **options)
    first, state = torch_op.linear_attention(q[:, :cut], k[:, :cut], v[:, :cut], **options)
    second, final = torch_op.linear_attention(
        q[:, cut:], k[:, cut:], v[:, cut:], initial_state=state, **options
    )
    torch.testing.assert_close(final, after, **TIGHT)
    torch.testing.assert_close(second, want[:, cut:], **TIGHT)
    if causal:
        torch.testing.assert_close(first, want[:, :cut], **TIGHT)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(seq_len=st.integers(1, 200), kept=st.floats(0, 1), form=st.sampled_from(sorted(FORMS)))
def test_later_tokens_change_nothing(seq_len: int, kept: float, form: str) -> None:
    tensors = _tensors((1, seq_len, 2, 5), (1, seq_len, 1, 5), (1, seq_len, 1, 4))
    q, k, v = (x.detach() for x in tensors)
    length = round(kept * seq_len)
    whole = torch_op.linear_attention(q, k, v, decay=_decay(2), **FORMS[form])
    prefix = torch_op.linear_attention(
        q[:, :length], k[:, :length], v[:, :length], decay=_decay(2), **FORMS[form]
    )
    torch.testing.assert_close(prefix, whole[:, :length], **TIGHT)


@settings(max_examples=15, deadline=None, derandomize=True)
@given(seq_len=st.integers(1, 150), form=st.sampled_from(sorted(FORMS)))
def test_order_of_keys_does_not_matter_unless_causal(seq_len: int, form: str) -> None:
    tensors = _tensors((1, seq_len, 2, 5), (1, seq_len, 1, 5), (1, seq_len, 1, 4))
    q, k, v = (x.detach() for x in tensors)
    order = torch.randperm(seq_len, generator=torch.Generator().manual_seed(seq_len))
    want = torch_op.linear_attention(q, k, v, causal=False, **FORMS[form])
    got = torch_op.linear_attention(q, k[:, order], v[:, order], causal=False, **FORMS[form])
    torch.testing.assert_close(got, want, **TIGHT)


def test_decay_of_one_is_no_decay() -> None:
    q, k, v = (x.detach() for x in _tensors((2, 90, 4, 6), (2, 90, 2, 6), (2, 90, 2, 3)))
    want = torch_op.linear_attention(q, k, v)
    assert torch.equal(torch_op.linear_attention(q, k, v, decay=torch.ones(4)), want)
    assert torch.equal(torch_op.linear_attention(q, k, v, decay=torch.ones(2, 4)), want)


def test_strong_decay_leaves_the_token_itself() -> None:
    q, k, v = (x.detach() for x in _tensors((1, 90, 2, 6), (1, 90, 2, 6), (1, 90, 2, 3)))
    out = torch_op.linear_attention(q, k, v, decay=torch.full((2,), 1e-30), eps=0.0)
    torch.testing.assert_close(out, v, rtol=1e-9, atol=1e-9)


def test_later_nan_stays_hidden_and_earlier_nan_shows() -> None:
    q, k, v = (x.detach() for x in _tensors((1, 90, 1, 6), (1, 90, 1, 6), (1, 90, 1, 3)))
    k[0, 40] = torch.nan
    out = torch_op.linear_attention(q, k, v)
    assert not out[0, :40].isnan().any()
    assert out[0, 40:].isnan().all()


def test_strided_inputs_and_gradients() -> None:
    # One tensor [batch, seq_len, 3, num_heads, head_dim], as a fused projection makes it.
    qkv = torch.randn(2, 9, 3, 4, 16, dtype=torch.float64, requires_grad=True)
    parts = qkv.unbind(dim=2)
    copies = [x.detach().clone().requires_grad_() for x in parts]
    # A sum has a gradient of stride 0.
    torch_op.linear_attention(*parts).sum().backward()
    torch_op.linear_attention(*copies).sum().backward()
    torch.testing.assert_close(qkv.grad, torch.stack([x.grad for x in copies], dim=2))


def test_reference_backend_on_request(monkeypatch: pytest.MonkeyPatch) -> None:
    case = cases.make_case(Sizes(2, 5, 4, 2, 8, 6), torch.float64, FEATURES["state decay"])
    expected = through_torch(case, torch_op.linear_attention)
    monkeypatch.setenv("HPC_KERNEL_BACKEND", "reference")
    torch.testing.assert_close(through_torch(case, torch_op.linear_attention), expected)


@pytest.mark.parametrize(
    ("q_shape", "k_shape", "v_shape", "message"),
    [
        ((5, 4, 8), (2, 5, 4, 8), (2, 5, 4, 8), r"q must be \[batch, seq_len, num_heads"),
        ((2, 5, 4, 8), (2, 7, 4, 8), (2, 7, 4, 8), r"in batch \(2\), seq_len \(5\)"),
        ((2, 5, 4, 8), (2, 5, 4, 9), (2, 5, 4, 8), r"head_dim \(8\), got shape \(2, 5, 4, 9\)"),
        ((2, 5, 4, 8), (2, 5, 4, 8), (2, 5, 2, 8), r"v must agree with k"),
        ((2, 5, 4, 8), (2, 5, 3, 8), (2, 5, 3, 8), "multiple of num_kv_heads, got 4 and 3"),
        ((2, 5, 4, 8), (2, 5, 4, 8), (2, 5, 4, 0), "head_dim must be positive, got 8 of q and 0"),
    ],
)
def test_bad_shapes_are_named(
    q_shape: tuple[int, ...], k_shape: tuple[int, ...], v_shape: tuple[int, ...], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        torch_op.linear_attention(*_tensors(q_shape, k_shape, v_shape))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"feature_map": "exp"}, ValueError, "one of identity, elu, relu, got exp"),
        ({"causal": False, "decay": _decay()}, ValueError, "decay needs causal=True"),
        ({"scale": 0.5}, ValueError, "scale cancels out of a normalized output"),
        ({"eps": float("nan")}, ValueError, "eps must be finite"),
        ({"eps": torch.tensor(1.0)}, TypeError, "eps must be a Python number"),
        ({"decay": torch.ones(3)}, ValueError, r"decay must be \[num_heads\], \(4,\)"),
        ({"initial_state": (1, 2)}, TypeError, "must be a State or None, got tuple"),
        (
            {"initial_state": State(torch.ones(2, 4, 6, 2), torch.ones(2, 4, 6))},
            ValueError,
            r"state's kv must be \(2, 4, 6, 3\), got shape \(2, 4, 6, 2\)",
        ),
    ],
)
def test_bad_arguments_are_named(
    arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        torch_op.linear_attention(*_tensors(), **arguments)


def test_bad_dtypes_and_devices_are_named() -> None:
    q, k, v = _tensors()
    with pytest.raises(TypeError, match="one dtype, got float64, float32 and float64"):
        torch_op.linear_attention(q, k.float(), v)
    with pytest.raises(UnsupportedKernelError, match="does not support int32 on cpu"):
        torch_op.linear_attention(*(torch.ones(1, 2, 1, 8, dtype=torch.int32) for _ in range(3)))
    with pytest.raises(ValueError, match="one device, got cpu, meta and cpu"):
        torch_op.linear_attention(q, k.to("meta"), v)


def test_a_step_takes_one_token() -> None:
    with pytest.raises(ValueError, match=r"q of one step must be \[batch, num_heads, head_dim\]"):
        torch_op.linear_attention_step(None, *_tensors())
