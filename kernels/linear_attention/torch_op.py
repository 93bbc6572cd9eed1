"""Linear attention for PyTorch: one custom operator for CPU and CUDA tensors, with gradients.

    from kernels.linear_attention import torch_op
    out = torch_op.linear_attention(q, k, v, decay=decay)

and, token by token with the same result,

    out, state = torch_op.linear_attention_step(state, q, k, v, decay=decay)

Works under torch.compile (fullgraph=True too), torch.func's transforms, autocast and forward-mode
differentiation, and runs the same native code as `jax_op`.
"""

from typing import Any

import torch

from kernels import arguments, torch_arguments
from kernels.linear_attention import contract, torch_calls
from kernels.linear_attention.contract import Extras, Options, Sizes, State
from kernels.torch_tensors import MaybeTensor, dtype_name, sum_dtype


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

    over the tokens j <= i, and over what the initial state stands for. An infinity or NaN shows
    where it is seen, on CUDA in all of its chunk of 64 tokens.

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
    q, k, v = torch_arguments.tensors(q=q, k=k, v=v)
    return_state = arguments.boolean("return_state", return_state)
    sizes = contract.check_shapes(q.shape, k.shape, v.shape)
    contract.check_dtypes(dtype_name(q), dtype_name(k), dtype_name(v))
    if not q.device == k.device == v.device:
        raise ValueError(
            f"q, k and v must be on one device, got {q.device}, {k.device} and {v.device}"
        )
    backend = contract.select(q.device.type, dtype_name(q), sizes)
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
    out, (kv, k_sum) = torch_calls.linear_attention(q, k, v, extras, return_state, options, backend)
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
    return contract.explain(q.device.type, dtype_name(q), sizes)


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
    for name, value in (("q", q), ("k", k), ("v", v)):
        torch_arguments.tensor(name, value)
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
    torch_arguments.real_tensor("decay", decay, or_else=" or None")
    contract.check_decay_shape(tuple(decay.shape), sizes)
    return decay.to(q.device, sum_dtype(q)).expand(sizes.batch, sizes.num_heads)


def _state(q: torch.Tensor, state: State | None, sizes: Sizes) -> tuple[MaybeTensor, MaybeTensor]:
    if state is None:
        return None, None
    contract.check_state(state, sizes)
    for name, value in zip(State._fields, state, strict=True):
        torch_arguments.real_tensor(f"the state's {name}", value)
    kv, k_sum = (x.to(q.device, sum_dtype(q)) for x in state)
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
