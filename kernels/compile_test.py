"""torch.compile of every operation, in one graph, while sizes change."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.autograd import forward_ad

from kernels.attention.rope import Rope, RopeTables
from kernels.attention.torch_op import attention
from kernels.linear_attention.contract import State
from kernels.linear_attention.torch_op import linear_attention, linear_attention_step
from kernels.quantize import torch_op as quantize_op
from kernels.quantize.contract import codec

# batch, seq_len, num_heads: the lengths of the issue, and then all other sizes.
SIZES = ((2, 7, 2), (2, 12, 2), (3, 13, 4))


def _attention(**options: Any) -> Callable[..., torch.Tensor]:
    return lambda q: attention(q, q, q, **options)


def _everything(q: torch.Tensor) -> torch.Tensor:
    batch, seq_len, num_heads, _ = q.shape
    slopes = q[0, 0, :, 0].abs()
    ids = torch.arange(seq_len).expand(batch, seq_len) // 3
    seeds = torch.arange(batch)
    key = q[:, :, : num_heads // 2]
    rope = Rope(100.0, seq_len, 2, interleaved=True)
    out, lse = attention(
        *(q, key, key.square()),
        alibi_slopes=slopes,
        segment_ids=ids,
        rope=rope,
        window=(seq_len - 1, 2),
        softcap=0.7,
        softmax_scale=0.3,
        dropout_rate=0.2,
        dropout_seed=seeds,
        return_lse=True,
    )
    return out + lse.transpose(1, 2).unsqueeze(-1)


def _tables(q: torch.Tensor) -> torch.Tensor:
    angles = torch.arange(q.shape[1], dtype=q.dtype)[:, None] * torch.tensor([1.0, 0.1])
    return attention(q, q, q, rope=RopeTables(angles.cos(), angles.sin()), dropout_rate=0.0)


def _linear(q: torch.Tensor) -> torch.Tensor:
    decay = q[0, 0, :, 0].sigmoid()
    out, state = linear_attention(q, q, q.square(), decay=decay, return_state=True)
    assert isinstance(state, State)
    return out + state.k_sum.sum()


def _all_of_linear(q: torch.Tensor) -> torch.Tensor:
    decay = q[0, 0, :, 0].sigmoid()
    out, state = linear_attention(q, q, q.square(), decay=decay, return_state=True)
    assert isinstance(state, State)
    step, _ = linear_attention_step(state, q[:, 0], q[:, 0], q[:, 0], decay=decay)
    plain = linear_attention(q, q, q, causal=False, feature_map="relu", normalize=False, scale=0.3)
    return out + step[:, None] + plain


def _quantize(q: torch.Tensor) -> torch.Tensor:
    blocks = codec(block_size=64, rounding="stochastic")
    payload = quantize_op.quantize(q.float(), blocks, num_chunks=q.shape[0], seed=3)
    return quantize_op.dequantize(payload, q.numel(), blocks) + q.flatten()


FUNCTIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "rope": _attention(rope=Rope()),
    "rope from": _attention(rope=Rope(offset=5, rotary_dim=2), causal=True),
    "everything": _everything,
    "tables": _tables,
    "linear attention": _all_of_linear,
    "quantize": _quantize,
}


def _result(function: Callable[..., Any], x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The result and a gradient."""
    out = function(x)
    return out, torch.autograd.grad(out.square().sum(), x)[0]


@pytest.mark.parametrize(
    ("name", "dynamic"),
    [*((name, None) for name in FUNCTIONS), ("everything", True), ("everything", "marked")],
)
def test_one_graph_while_sizes_change(name: str, dynamic: bool | str | None) -> None:
    function = FUNCTIONS[name]
    torch.compiler.reset()
    compiled = torch.compile(
        function, fullgraph=True, backend="aot_eager", dynamic=True if dynamic is True else None
    )
    generator = torch.Generator().manual_seed(0)
    for batch, seq_len, num_heads in SIZES:
        x = torch.randn(batch, seq_len, num_heads, 4, generator=generator, dtype=torch.float64)
        x.requires_grad_()
        if dynamic == "marked":
            # An error if the graph is for these sizes only.
            torch._dynamo.mark_dynamic(x, (0, 1))
        expected = _result(function, x)
        for got, want in zip(_result(compiled, x), expected, strict=True):
            torch.testing.assert_close(got, want)


def test_the_graph_has_the_operators() -> None:
    """Not the formula, which would compile as well."""
    torch.compiler.reset()
    called: list[str] = []

    def record(graph: torch.fx.GraphModule, _: Any) -> Callable[..., Any]:
        called.extend(str(node.target) for node in graph.graph.nodes)
        return graph.forward

    def both(q: torch.Tensor) -> torch.Tensor:
        return attention(q, q, q, rope=Rope()) + linear_attention(q, q, q)

    torch.compile(both, fullgraph=True, backend=record)(torch.ones(1, 3, 2, 4))
    operators = {"hpc.attention_forward.default", "hpc.linear_attention_forward.default"}
    assert operators < set(called)
    assert not any("einsum" in name for name in called)


# Of the bare operators, after q, k and v: no extras, and the options.
OPERATOR_OPTIONS: dict[str, tuple[Any, ...]] = {
    "attention": (*(None,) * 6, 1.0, -1, -1, 0.0, 0.0, 0, False, "cpu"),
    "linear_attention": (*(None,) * 3, False, True, 0, True, 1e-6, 1.0, "cpu"),
}

# Of one operator each.
TRANSFORMED: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "rope": FUNCTIONS["rope"],
    "linear attention": _linear,
}

TRANSFORMS: dict[str, Callable[..., Any]] = {
    "grad": lambda f: torch.func.grad(lambda x: f(x).square().sum()),
    "vmap": lambda f: torch.vmap(f),
    "vmap of grad": lambda f: torch.vmap(torch.func.grad(lambda x: f(x).square().sum())),
    "jvp": lambda f: lambda x: torch.func.jvp(f, (x,), (x,))[1],
}


@pytest.mark.parametrize("transform", TRANSFORMS.values(), ids=TRANSFORMS)
@pytest.mark.parametrize("function", TRANSFORMED.values(), ids=TRANSFORMED)
def test_transforms_in_the_graph(
    function: Callable[..., Any], transform: Callable[..., Any]
) -> None:
    torch.compiler.reset()
    x = torch.randn(2, 1, 3, 2, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x = x if transform in (TRANSFORMS["vmap"], TRANSFORMS["vmap of grad"]) else x[0]
    transformed = transform(function)
    compiled = torch.compile(transformed, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x), transformed(x))


@pytest.mark.parametrize("function", TRANSFORMED.values(), ids=TRANSFORMED)
def test_no_zero_tangent_of_what_was_compiled_before(function: Callable[..., Any]) -> None:
    """The operators in a graph have no forward mode; they say so."""
    torch.compiler.reset()
    x = torch.randn(1, 3, 2, 4, generator=torch.Generator().manual_seed(0))
    compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
    compiled(x)
    with forward_ad.dual_level(), pytest.raises(NotImplementedError, match="forward mode"):
        compiled(forward_ad.make_dual(x, x))


@pytest.mark.parametrize("name", ["attention", "linear_attention"])
@pytest.mark.parametrize("requires_grad", [False, True])
def test_no_zero_tangent_of_an_operator(name: str, requires_grad: bool) -> None:
    x = torch.ones(1, 3, 2, 4, requires_grad=requires_grad)
    operator = getattr(torch.ops.hpc, f"{name}_forward")

    def function(x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = operator(*(x, x, x), *OPERATOR_OPTIONS[name])[0]
        return out

    function(x)
    with forward_ad.dual_level(), pytest.raises(NotImplementedError):
        function(forward_ad.make_dual(x, torch.ones_like(x)))
    with pytest.raises(NotImplementedError, match="forward mode"):
        torch.func.jvp(function, (x.detach(),), (x.detach(),))


def test_autocast_in_the_graph() -> None:
    torch.compiler.reset()
    x = torch.randn(1, 3, 2, 4, generator=torch.Generator().manual_seed(0))

    def function(x: torch.Tensor) -> torch.Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return attention(x, x, x, rope=Rope())

    got = torch.compile(function, fullgraph=True, backend="aot_eager")(x)
    assert got.dtype == torch.bfloat16
    torch.testing.assert_close(got, function(x))
