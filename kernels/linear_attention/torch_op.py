"""Linear attention for PyTorch: one custom operator for CPU and CUDA tensors, with gradients.

    from kernels.linear_attention import torch_op
    out = torch_op.linear_attention(q, k, v, decay=decay)

and, token by token with the same result,

    out, state = torch_op.linear_attention_step(state, q, k, v, decay=decay)

The operators `hpc::linear_attention_forward` and `hpc::linear_attention_backward` are opaque to
torch.compile (fullgraph=True works) and run the same native code as `jax_op`.
"""

from typing import Any, TypeAlias

import torch

from kernels import cubin_loader
from kernels.linear_attention import _native, contract, reference
from kernels.linear_attention.contract import Extras, Options, Sizes, State

_ALIGNMENT_BYTES = 16

# Looked up several times a call; str(dtype) takes a microsecond.
_DTYPE_NAMES = {
    torch.float16: "float16",
    torch.bfloat16: "bfloat16",
    torch.float32: "float32",
    torch.float64: "float64",
}

MaybeTensor: TypeAlias = torch.Tensor | None


def linear_attention(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    *,
    feature_map: str = "elu",
    causal: bool = True,
    normalize: bool = True,
    decay: torch.Tensor | None = None,
    scale: float | None = None,
    eps: float = contract.DEFAULT_EPS,
    initial_state: State | None = None,
    return_state: bool = False,
) -> torch.Tensor | tuple[torch.Tensor, State]:
    """Computes attention whose weights are products of features, in time linear in seq_len.

    With A_ij = decay^(i - j) phi(q_i) . phi(k_j), token i gives

        sum_j A_ij v_j / (sum_j A_ij + eps)      or, unless normalized,      scale sum_j A_ij v_j

    over the tokens j <= i, and over what the initial state stands for.

    Args:
      q: [batch, seq_len, num_heads, key_dim].
      k: [batch, seq_len, num_kv_heads, key_dim]; num_heads is a multiple of num_kv_heads and query
        head h reads key head h // (num_heads // num_kv_heads).
      v: [batch, seq_len, num_kv_heads, value_dim]. One dtype for all: float32, bfloat16,
        float16 or, on CPU, float64; on CUDA with dimensions up to 128. Sums are float32, or float64
        for float64.
      feature_map: phi, which acts on each channel: "elu" is elu(x) + 1, "relu" max(x, 0),
        "identity" leaves q and k as they are: for maps of your own, applied before, and for RetNet.
      causal: False: over all tokens j, and the initial state with weight 1.
      normalize: divide by the sum of the weights. Wants a feature map that is not negative.
      decay: [num_heads] or [batch, num_heads], in (0, 1], which is not checked; 1 unless given.
        Needs `causal`. Differentiable.
      scale: factor of the output unless normalized; 1 / sqrt(key_dim) unless given.
      eps: added to the sum of the weights.
      initial_state: what a call with `return_state` gave for the tokens before; no tokens unless
        given. Differentiable.
      return_state: return the state after the last token too. Differentiable.

    Returns:
      A contiguous tensor [batch, seq_len, num_heads, value_dim] with the dtype and device of q.
      With return_state, a pair of it and a State of kv [batch, num_heads, key_dim, value_dim] and
      k_sum [batch, num_heads, key_dim], in the type of the sums.

    Raises:
      TypeError: dtypes differ, or an argument is not of its type.
      ValueError: shapes do not fit, devices differ, an argument is out of its range or contradicts
        another, or no backend serves this dtype and device.

    Reference: Katharopoulos et al., "Transformers are RNNs", 2020, arXiv:2006.16236; Sun et al.,
    "Retentive Network", 2023, arXiv:2307.08621; in chunks as in Yang et al., "Gated Linear
    Attention", 2023, arXiv:2312.06635.
    """
    sizes = contract.check_shapes(q.shape, k.shape, v.shape)
    contract.check_dtypes(_dtype_name(q), _dtype_name(k), _dtype_name(v))
    if not q.device == k.device == v.device:
        raise ValueError(
            f"q, k and v must be on one device, got {q.device}, {k.device} and {v.device}"
        )
    backend = contract.select(q.device.type, _dtype_name(q), sizes)
    options = contract.resolve_options(
        sizes,
        causal=causal,
        feature_map=feature_map,
        normalize=normalize,
        eps=eps,
        scale=scale,
        has_decay=decay is not None,
    )
    extras = Extras(_decay(q, decay, sizes), *_state(q, initial_state, sizes))
    pad_k, pad_v = (contract.head_padding(backend, d) for d in (sizes.key_dim, sizes.value_dim))
    if pad_k or pad_v:
        q, k, v, extras = _pad(q, k, v, extras, (pad_k, pad_v), options)
    out, _, kv, k_sum = _forward(q, k, v, *extras, return_state, *options)
    out = out[..., : sizes.value_dim] if pad_v else out
    if not return_state:
        return out
    return out, State(kv[..., : sizes.key_dim, : sizes.value_dim], k_sum[..., : sizes.key_dim])


def explain(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, **options: Any) -> str:
    """Returns a line for each backend: whether and why `linear_attention` takes it.

    Raises:
      ValueError: shapes do not fit, or no backend serves this dtype and device.
    """
    sizes = contract.check_shapes(q.shape, k.shape, v.shape)
    return contract.explain(q.device.type, _dtype_name(q), sizes)


def linear_attention_step(
    state: State | None,
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    *,
    feature_map: str = "elu",
    normalize: bool = True,
    decay: torch.Tensor | None = None,
    scale: float | None = None,
    eps: float = contract.DEFAULT_EPS,
) -> tuple[torch.Tensor, State]:
    """Computes `linear_attention`, causal, for one more token.

    Args:
      state: of the tokens before; None: there are none.
      q: [batch, num_heads, key_dim].
      k: [batch, num_kv_heads, key_dim].
      v: [batch, num_kv_heads, value_dim].
      feature_map: as for `linear_attention`.
      normalize: as for `linear_attention`.
      decay: as for `linear_attention`.
      scale: as for `linear_attention`.
      eps: as for `linear_attention`.

    Returns:
      The token's output [batch, num_heads, value_dim] and the state after it.

    Raises:
      TypeError, ValueError: as `linear_attention`.
    """
    contract.check_step_shapes(q.shape, k.shape, v.shape)
    out, after = linear_attention(
        q[:, None],
        k[:, None],
        v[:, None],
        feature_map=feature_map,
        normalize=normalize,
        decay=decay,
        scale=scale,
        eps=eps,
        initial_state=state,
        return_state=True,
    )
    return out[:, 0], after


def _decay(q: torch.Tensor, decay: MaybeTensor, sizes: Sizes) -> MaybeTensor:
    if decay is None:
        return None
    contract.check_decay_shape(tuple(decay.shape), sizes)
    return decay.to(q.device, _sum_dtype(q)).expand(sizes.batch, sizes.num_heads)


def _state(q: torch.Tensor, state: State | None, sizes: Sizes) -> tuple[MaybeTensor, MaybeTensor]:
    if state is None:
        return None, None
    contract.check_state(state, sizes)
    kv, k_sum = (x.to(q.device, _sum_dtype(q)) for x in state)
    return kv, k_sum


def _pad(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    extras: Extras,
    padding: tuple[int, int],
    options: Options,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, Extras]:
    """Adds channels to the heads that change no result."""
    pad, (pad_k, pad_v) = torch.nn.functional.pad, padding
    value = contract.padding_value(options)
    q, k = (pad(x, (0, pad_k), value=value) for x in (q, k))
    if extras.initial_kv is not None:
        kv, k_sum = extras.initial_kv, extras.initial_k_sum
        extras = Extras(extras.decay, pad(kv, (0, pad_v, 0, pad_k)), pad(k_sum, (0, pad_k)))
    return q, k, pad(v, (0, pad_v)), extras


@torch.library.custom_op("hpc::linear_attention_forward", mutates_args=())
def _forward(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    decay: torch.Tensor | None,
    initial_kv: torch.Tensor | None,
    initial_k_sum: torch.Tensor | None,
    wants_state: bool,
    causal: bool,
    feature_map: int,
    normalize: bool,
    eps: float,
    scale: float,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Returns out, factor [batch, num_heads, seq_len] and the final state (empty unless wanted)."""
    inputs = tuple(map(_prepare, (q, k, v, decay, initial_kv, initial_k_sum)))
    results = _empty_results(q, v, wants_state)
    _run("forward", (*inputs, *results), Options(causal, feature_map, normalize, eps, scale))
    return results


@torch.library.custom_op("hpc::linear_attention_backward", mutates_args=())
def _backward(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    decay: torch.Tensor | None,
    initial_kv: torch.Tensor | None,
    initial_k_sum: torch.Tensor | None,
    out: torch.Tensor,
    factor: torch.Tensor,
    grad_out: torch.Tensor,
    grad_final_kv: torch.Tensor | None,
    grad_final_k_sum: torch.Tensor | None,
    wants_decay: bool,
    wants_initial: bool,
    causal: bool,
    feature_map: int,
    normalize: bool,
    eps: float,
    scale: float,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Returns the gradients of q, k, v, decay and the initial state (empty unless wanted)."""
    given = (q, k, v, decay, initial_kv, initial_k_sum, out, factor, grad_out)
    inputs = tuple(map(_prepare, (*given, grad_final_kv, grad_final_k_sum)))
    grads = _empty_gradients(q, k, v, wants_decay, wants_initial)
    _run("backward", (*inputs, *grads), Options(causal, feature_map, normalize, eps, scale))
    return grads


@_forward.register_fake
def _forward_fake(q, k, v, decay, kv, k_sum, wants_state, *options):  # type: ignore[no-untyped-def]
    return _empty_results(q, v, wants_state)


@_backward.register_fake
def _backward_fake(q, k, v, *others):  # type: ignore[no-untyped-def]
    wants_decay, wants_initial = others[8:10]
    return _empty_gradients(q, k, v, wants_decay, wants_initial)


def _setup_context(ctx, inputs, output) -> None:  # type: ignore[no-untyped-def]
    ctx.options = inputs[7:]
    ctx.save_for_backward(*inputs[:6], *output[:2])
    ctx.mark_non_differentiable(output[1])
    ctx.set_materialize_grads(False)


def _gradients(ctx, grad_out, grad_factor, grad_kv, grad_k_sum):  # type: ignore[no-untyped-def]
    q, k, v, decay, kv, k_sum, out, factor = ctx.saved_tensors
    if grad_out is None:
        grad_out = torch.zeros_like(out)
    if (grad_kv is None) != (grad_k_sum is None):
        _, _, *zeros = _empty_results(q, v, wants_state=True)
        grad_kv, grad_k_sum = (
            zero.zero_() if g is None else g
            for g, zero in zip((grad_kv, grad_k_sum), zeros, strict=True)
        )
    wants_decay, wants_initial = ctx.needs_input_grad[3], any(ctx.needs_input_grad[4:6])
    inputs = (q, k, v, decay, kv, k_sum, out, factor, grad_out, grad_kv, grad_k_sum)
    *grads, for_decay, for_kv, for_k_sum = _backward(
        *inputs, wants_decay, wants_initial, *ctx.options
    )
    initial = (for_kv, for_k_sum) if wants_initial else (None, None)
    unused = (None,) * (1 + len(ctx.options))
    return *grads, for_decay if wants_decay else None, *initial, *unused


_forward.register_autograd(_gradients, setup_context=_setup_context)


def _sum_dtype(x: torch.Tensor) -> torch.dtype:
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def _empty_state(q: torch.Tensor, v: torch.Tensor, wanted: bool) -> tuple[torch.Tensor, ...]:
    batch, _, num_heads, key_dim = q.shape
    shapes = ((batch, num_heads, key_dim, v.shape[3]), (batch, num_heads, key_dim))
    return tuple(q.new_empty(s if wanted else (0,), dtype=_sum_dtype(q)) for s in shapes)


def _empty_results(
    q: torch.Tensor, v: torch.Tensor, wants_state: bool
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Makes out, factor and the final state, contiguous whatever the layout of q."""
    batch, seq_len, num_heads, _ = q.shape
    out = q.new_empty((batch, seq_len, num_heads, v.shape[3]))
    factor = q.new_empty((batch, num_heads, seq_len), dtype=_sum_dtype(q))
    kv, k_sum = _empty_state(q, v, wants_state)
    return out, factor, kv, k_sum


def _empty_gradients(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, wants_decay: bool, wants_initial: bool
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    decay_shape = (q.shape[0], q.shape[2]) if wants_decay else (0,)
    decay = q.new_empty(decay_shape, dtype=_sum_dtype(q))
    kv, k_sum = _empty_state(q, v, wants_initial)
    return q.new_empty(q.shape), k.new_empty(k.shape), v.new_empty(v.shape), decay, kv, k_sum


def _run(direction: str, tensors: tuple[Any, ...], options: Options) -> None:
    """Runs "forward" or "backward" on tensors in the order of problem.h, without the workspace."""
    q, v = tensors[0], tensors[2]
    batch, seq_len, num_heads, key_dim = q.shape
    sizes = Sizes(batch, seq_len, num_heads, v.shape[2], key_dim, v.shape[3])
    dtype = _dtype_name(q)
    backend = contract.select(q.device.type, dtype, sizes)
    if backend == "cpu":
        _native.limit_threads(torch.get_num_threads())
        getattr(_native, f"{direction}_cpu")(dtype, sizes, options, _addresses(*tensors, None))
    elif backend == "triton" and q.device.type == "cuda":
        cubin_loader.ensure_registered(_native)
        run = getattr(_native, f"{direction}_cuda")
        addresses = _addresses(*tensors, _workspace(direction, q, sizes))
        stream = torch.cuda.current_stream(q.device).cuda_stream
        run(dtype, sizes, options, addresses, q.device.index, stream)
    elif backend == "triton":
        # Imported here: Triton decides at its import whether to interpret.
        from kernels.linear_attention import triton_jit

        run = getattr(triton_jit, direction)
        run(*tensors, _workspace(direction, q, sizes), sizes=sizes, options=options)
    else:
        _run_reference(direction, tensors, options)


def _workspace(direction: str, q: torch.Tensor, sizes: Sizes) -> torch.Tensor:
    size = contract.workspace_bytes(
        "triton", _dtype_name(q), sizes, backward=direction == "backward"
    )
    return q.new_empty((size,), dtype=torch.uint8)


def _run_reference(direction: str, tensors: tuple[Any, ...], options: Options) -> None:
    arrays: list[Any] = [None if x is None else x.double().numpy() for x in tensors]
    q, k, v, *extras = arrays[:6]
    results: tuple[reference.Array, ...]
    if direction == "forward":
        out, state = reference.forward(q, k, v, options, Extras(*extras))
        outputs, results = (tensors[6], *tensors[8:]), (out, *state)
        tensors[7].zero_()  # The factor: the specification's gradients do not take it.
    else:
        grad_final = None if arrays[9] is None else State(*arrays[9:11])
        outputs = tensors[11:]
        results = reference.backward(q, k, v, arrays[8], options, Extras(*extras), grad_final)
    for output, result in zip(outputs, results, strict=True):
        if output.numel():
            output.copy_(torch.from_numpy(result))


def _prepare(x: MaybeTensor) -> MaybeTensor:
    """Contiguous, and aligned as the vector loads of the CUDA kernels need it."""
    if x is None:
        return None
    x = x.contiguous()
    return x if x.data_ptr() % _ALIGNMENT_BYTES == 0 else x.clone()


def _addresses(*tensors: MaybeTensor) -> list[int]:
    return [0 if x is None or not x.numel() else x.data_ptr() for x in tensors]


def _dtype_name(x: torch.Tensor) -> str:
    return _DTYPE_NAMES.get(x.dtype) or str(x.dtype).removeprefix("torch.")
