"""Attention for PyTorch: one custom operator for CPU and CUDA tensors, with gradients.

    from kernels.attention import torch_op
    out = torch_op.attention(q, k, v, causal=True)

The operators `hpc::attention_forward` and `hpc::attention_backward` are opaque to torch.compile
(fullgraph=True works) and run the same native code as `jax_op`.
"""

import torch

from kernels.attention import _native, contract, cubin_loader, reference

_ALIGNMENT_BYTES = 16

# Looked up several times a call; str(dtype) takes a microsecond.
_DTYPE_NAMES = {
    torch.float16: "float16",
    torch.bfloat16: "bfloat16",
    torch.float32: "float32",
    torch.float64: "float64",
}


def attention(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    *,
    causal: bool = False,
    softmax_scale: float | None = None,
) -> torch.Tensor:
    """Computes softmax(softmax_scale * q k^T) v for each head.

    Args:
      q: [batch, seq_q, num_heads, head_dim].
      k: [batch, seq_k, num_kv_heads, head_dim]; num_heads is a multiple of num_kv_heads and query
        head h reads key head h // (num_heads // num_kv_heads).
      v: as k. One dtype for all: float32, bfloat16 or float64 on CPU; float16, bfloat16 or float32
        on CUDA with head_dim up to 128. Sums are float32, or float64 for float64.
      causal: query i sees the keys j <= i + seq_k - seq_q, aligned to the bottom right. A query
        that sees no key gives zeros.
      softmax_scale: 1 / sqrt(head_dim) unless given.

    Returns:
      A contiguous tensor with the shape, dtype and device of q.

    Raises:
      TypeError: dtypes differ, or softmax_scale is not a number.
      ValueError: shapes do not fit, devices differ, or no backend serves this dtype and device.

    Reference: Dao, "FlashAttention-2", 2023, arXiv:2307.08691.
    """
    sizes = contract.check_shapes(q.shape, k.shape, v.shape)
    contract.check_dtypes(_dtype_name(q), _dtype_name(k), _dtype_name(v))
    if not q.device == k.device == v.device:
        raise ValueError(
            f"q, k and v must be on one device, got {q.device}, {k.device} and {v.device}"
        )
    backend = contract.select(q.device.type, _dtype_name(q), sizes.head_dim)
    scale = contract.resolve_scale(softmax_scale, sizes.head_dim)
    if padding := contract.head_padding(backend, sizes.head_dim):
        q, k, v = (torch.nn.functional.pad(x, (0, padding)) for x in (q, k, v))
    out: torch.Tensor = _forward(q, k, v, causal, scale)[0]
    return out[..., : sizes.head_dim] if padding else out


@torch.library.custom_op("hpc::attention_forward", mutates_args=())
def _forward(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, causal: bool, softmax_scale: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns out and lse [batch, num_heads, seq_q]."""
    q, k, v = map(_prepare, (q, k, v))
    out, lse = _empty_results(q)
    _run("forward", (q, k, v, out, lse), causal, softmax_scale)
    return out, lse


@torch.library.custom_op("hpc::attention_backward", mutates_args=())
def _backward(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    out: torch.Tensor,
    lse: torch.Tensor,
    grad_out: torch.Tensor,
    causal: bool,
    softmax_scale: float,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Returns the gradients of q, k and v."""
    q, k, v, out, lse, grad_out = map(_prepare, (q, k, v, out, lse, grad_out))
    grads = torch.empty_like(q), torch.empty_like(k), torch.empty_like(v)
    delta = torch.empty_like(lse)
    _run("backward", (q, k, v, out, lse, grad_out, *grads, delta), causal, softmax_scale)
    return grads


@_forward.register_fake
def _forward_fake(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, causal: bool, softmax_scale: float
) -> tuple[torch.Tensor, torch.Tensor]:
    return _empty_results(q)


@_backward.register_fake
def _backward_fake(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    out: torch.Tensor,
    lse: torch.Tensor,
    grad_out: torch.Tensor,
    causal: bool,
    softmax_scale: float,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return q.new_empty(q.shape), k.new_empty(k.shape), v.new_empty(v.shape)


def _setup_context(ctx, inputs, output) -> None:  # type: ignore[no-untyped-def]
    q, k, v, ctx.causal, ctx.softmax_scale = inputs
    ctx.save_for_backward(q, k, v, *output)
    ctx.mark_non_differentiable(output[1])


def _gradients(ctx, grad_out, grad_lse):  # type: ignore[no-untyped-def]
    grads = _backward(*ctx.saved_tensors, grad_out, ctx.causal, ctx.softmax_scale)
    return *grads, None, None


_forward.register_autograd(_gradients, setup_context=_setup_context)


def _empty_results(q: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Makes out and lse, contiguous whatever the layout of q."""
    batch, seq_q, num_heads, _ = q.shape
    lse_dtype = torch.float64 if q.dtype == torch.float64 else torch.float32
    return q.new_empty(q.shape), q.new_empty((batch, num_heads, seq_q), dtype=lse_dtype)


def _run(
    direction: str, tensors: tuple[torch.Tensor, ...], causal: bool, softmax_scale: float
) -> None:
    """Runs "forward" or "backward" on tensors in the order of problem.h."""
    q, k = tensors[:2]
    batch, seq_q, num_heads, head_dim = q.shape
    sizes = contract.Sizes(batch, seq_q, k.shape[1], num_heads, k.shape[2], head_dim)
    dtype = _dtype_name(q)
    backend = contract.select(q.device.type, dtype, sizes.head_dim)
    addresses = [x.data_ptr() for x in tensors]
    if backend == "cpu":
        run = getattr(_native, f"{direction}_cpu")
        run(dtype, sizes, causal, softmax_scale, addresses)
    elif backend == "triton" and q.device.type == "cuda":
        cubin_loader.ensure_registered()
        run = getattr(_native, f"{direction}_cuda")
        stream = torch.cuda.current_stream(q.device).cuda_stream
        run(dtype, sizes, causal, softmax_scale, addresses, q.device.index, stream)
    elif backend == "triton":
        # Imported here: Triton decides at its import whether to interpret.
        from kernels.attention import triton_jit

        run = getattr(triton_jit, direction)
        run(*tensors, sizes=sizes, causal=causal, softmax_scale=softmax_scale)
    else:
        _run_reference(direction, tensors, causal, softmax_scale)


def _run_reference(
    direction: str, tensors: tuple[torch.Tensor, ...], causal: bool, softmax_scale: float
) -> None:
    q, k, v, *_ = (x.double().numpy() for x in tensors)
    results: tuple[reference.Array, ...]
    if direction == "forward":
        outputs = tensors[3:5]
        results = reference.forward(q, k, v, causal=causal, softmax_scale=softmax_scale)
    else:
        outputs, grad_out = tensors[6:9], tensors[5].double().numpy()
        results = reference.backward(q, k, v, grad_out, causal=causal, softmax_scale=softmax_scale)
    for output, result in zip(outputs, results, strict=True):
        output.copy_(torch.from_numpy(result))


def _prepare(x: torch.Tensor) -> torch.Tensor:
    """Contiguous, and aligned as the vector loads of the CUDA kernels need it."""
    x = x.contiguous()
    return x if x.data_ptr() % _ALIGNMENT_BYTES == 0 else x.clone()


def _dtype_name(x: torch.Tensor) -> str:
    return _DTYPE_NAMES.get(x.dtype) or str(x.dtype).removeprefix("torch.")
