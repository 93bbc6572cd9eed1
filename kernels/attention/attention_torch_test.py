"""Attention as a PyTorch operator: gradients, compilation, layouts and errors."""

import pytest
import torch

from kernels.attention import equality, torch_op
from kernels.attention.contract import Sizes
from kernels.dispatch import UnsupportedKernelError


def _tensors(
    q_shape: tuple[int, ...] = (2, 5, 4, 8),
    kv_shape: tuple[int, ...] = (2, 7, 2, 8),
    dtype: torch.dtype = torch.float64,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return tuple(
        torch.randn(shape, generator=generator, dtype=dtype).requires_grad_()
        for shape in (q_shape, kv_shape, kv_shape)
    )


@pytest.mark.parametrize("causal", [False, True])
def test_gradcheck(causal: bool) -> None:
    assert torch.autograd.gradcheck(
        lambda *args: torch_op.attention(*args, causal=causal, softmax_scale=0.7), _tensors()
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
def test_operators_are_well_formed(dtype: torch.dtype) -> None:
    q, k, v = _tensors(dtype=dtype)
    torch.library.opcheck(torch.ops.hpc.attention_forward.default, (q, k, v, True, 0.5))
    detached = [x.detach() for x in (q, k, v)]
    out, lse = torch.ops.hpc.attention_forward(*detached, True, 0.5)
    torch.library.opcheck(
        torch.ops.hpc.attention_backward.default,
        (*detached, out, lse, torch.ones_like(out), True, 0.5),
    )


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
@pytest.mark.parametrize("dynamic", [False, True])
def test_compiles_into_one_graph(backend: str, dynamic: bool) -> None:
    def loss(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        return torch_op.attention(torch.tanh(q), k, v, causal=True).square().sum()

    torch.compiler.reset()
    compiled = torch.compile(loss, backend=backend, fullgraph=True, dynamic=dynamic)
    inputs = _tensors()
    expected = torch.autograd.grad(loss(*inputs), inputs)
    for want, got in zip(expected, torch.autograd.grad(compiled(*inputs), inputs), strict=True):
        torch.testing.assert_close(got, want)


def test_strided_inputs_and_gradients() -> None:
    # One tensor [batch, seq_len, 3, num_heads, head_dim], as a fused projection makes it.
    qkv = torch.randn(2, 9, 3, 4, 16, dtype=torch.float64, requires_grad=True)
    parts = qkv.unbind(dim=2)
    copies = [x.detach().clone().requires_grad_() for x in parts]
    # A sum has a gradient of stride 0.
    torch_op.attention(*parts).sum().backward()
    torch_op.attention(*copies).sum().backward()
    torch.testing.assert_close(qkv.grad, torch.stack([x.grad for x in copies], dim=2))


def test_inputs_at_odd_addresses() -> None:
    storage = torch.randn(1 + 2 * 5 * 4 * 8)
    q = storage[1:].view(2, 5, 4, 8)
    torch.testing.assert_close(torch_op.attention(q, q, q), torch_op.attention(*[q.clone()] * 3))


@pytest.mark.parametrize("causal", [False, True])
def test_agrees_with_torch(causal: bool) -> None:
    q, k, v = (x.detach() for x in _tensors((2, 70, 4, 32), (2, 70, 2, 32), torch.float32))
    expected = torch.nn.functional.scaled_dot_product_attention(
        *(x.transpose(1, 2) for x in (q, k, v)), is_causal=causal, enable_gqa=True
    ).transpose(1, 2)
    torch.testing.assert_close(torch_op.attention(q, k, v, causal=causal), expected)


@pytest.mark.parametrize("scale", [0.0, -0.5, 2, None])
def test_softmax_scale(scale: float | None) -> None:
    q, k, v = _tensors()
    factor = q.shape[-1] ** -0.5 if scale is None else scale
    # The plain implementation divides by the root of head_dim itself.
    folded = q.detach() * factor * q.shape[-1] ** 0.5
    expected, *_ = equality.plain(folded, k.detach(), v.detach(), torch.ones_like(q), False)
    torch.testing.assert_close(torch_op.attention(q, k, v, softmax_scale=scale), expected)


def test_reference_backend_on_request(monkeypatch: pytest.MonkeyPatch) -> None:
    case = equality.make_case(Sizes(2, 5, 7, 4, 2, 8), torch.float64, causal=True)
    inputs = (case.q, case.k, case.v, case.grad_out, True)
    expected = equality.through_torch(*inputs)
    monkeypatch.setenv("HPC_KERNEL_BACKEND", "reference")
    for want, got in zip(expected, equality.through_torch(*inputs), strict=True):
        torch.testing.assert_close(got, want)


@pytest.mark.parametrize(
    ("q_shape", "kv_shape", "message"),
    [
        ((5, 4, 8), (2, 7, 4, 8), r"q must be \[batch, seq_len, num_heads, head_dim\]"),
        ((2, 5, 4, 8), (7, 4, 8), r"k must be \[batch, seq_len, num_heads, head_dim\]"),
        ((2, 5, 4, 8), (3, 7, 4, 8), r"agree with q in batch \(2\)"),
        ((2, 5, 4, 8), (2, 7, 4, 9), r"head_dim \(8\), got shape \(2, 7, 4, 9\)"),
        ((2, 5, 4, 8), (2, 7, 3, 8), "multiple of num_kv_heads, got 4 and 3"),
        ((2, 5, 4, 8), (2, 7, 8, 8), "multiple of num_kv_heads, got 4 and 8"),
        ((2, 5, 4, 0), (2, 7, 4, 0), "head_dim must be positive"),
    ],
)
def test_bad_shapes_are_named(
    q_shape: tuple[int, ...], kv_shape: tuple[int, ...], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        torch_op.attention(*_tensors(q_shape, kv_shape))


def test_values_must_match_keys() -> None:
    q, k, v = _tensors()
    with pytest.raises(ValueError, match="v must have the shape of k"):
        torch_op.attention(q, k, v[:, :6])


def test_bad_dtypes_are_named() -> None:
    q, k, v = _tensors()
    with pytest.raises(TypeError, match="one dtype, got float64, float32 and float64"):
        torch_op.attention(q, k.float(), v)
    with pytest.raises(UnsupportedKernelError, match="does not support int32 on cpu"):
        torch_op.attention(*(torch.ones(1, 2, 1, 8, dtype=torch.int32) for _ in range(3)))
    with pytest.raises(UnsupportedKernelError, match="cpu on cpu: bfloat16, float32, float64"):
        torch_op.attention(*(x.half() for x in (q, k, v)))


def test_bad_devices_are_named() -> None:
    q, k, v = _tensors()
    with pytest.raises(ValueError, match="one device, got cpu, meta and cpu"):
        torch_op.attention(q, k.to("meta"), v)


@pytest.mark.parametrize("scale", [float("nan"), float("inf")])
def test_scale_must_be_finite(scale: float) -> None:
    with pytest.raises(ValueError, match="softmax_scale must be finite"):
        torch_op.attention(*_tensors(), softmax_scale=scale)


def test_scale_must_be_a_number() -> None:
    with pytest.raises(TypeError, match="softmax_scale must be a Python number"):
        torch_op.attention(*_tensors(), softmax_scale=torch.tensor(1.0))
