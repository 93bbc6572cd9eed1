"""Linear attention for JAX: one XLA FFI call for CPU and CUDA, with gradients.

    from kernels.linear_attention import jax_op
    out = jax_op.linear_attention(q, k, v, decay=decay)

and, token by token with the same result,

    out, state = jax_op.linear_attention_step(state, q, k, v, decay=decay)

Works under jit, grad, jvp and vmap (which folds into the batch), and runs the same native code as
`torch_op`. Under jit the backend is chosen when the function is traced. Under sharding the call is
opaque: wrap it in `jax.shard_map` over batch or heads.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kernels import arguments, cubin_loader, jax_arguments, jax_calls, jax_derivatives
from kernels.dispatch import UnsupportedKernelError
from kernels.linear_attention import _native, contract, formula_jax, reference
from kernels.linear_attention.contract import Extras, Options, Sizes, State

for _target, _platform, _handler in _native.xla_handlers():
    jax.ffi.register_ffi_target(_target, _handler, platform=_platform)


def linear_attention(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    *,
    feature_map: str = "elu",
    causal: bool = True,
    normalize: bool = True,
    decay: jax.Array | None = None,
    scale: float | None = None,
    eps: float = contract.DEFAULT_EPS,
    initial_state: State | None = None,
    return_state: bool = False,
) -> jax.Array | tuple[jax.Array, State]:
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
      scale: factor of the output unless normalized; 1 / sqrt(key_dim) unless given. As eps, a
        Python number and not a traced array.
      eps: added to the sum of the weights.
      initial_state: what a call with `return_state` gave for the tokens before; no tokens unless
        given. Differentiable.
      return_state: return the state after the last token too. Differentiable.

    Returns:
      An array [batch, seq_len, num_heads, value_dim] with the dtype of q. With return_state, a pair
      of it and a State of kv [batch, num_heads, key_dim, value_dim] and k_sum [batch, num_heads,
      key_dim], in the type of the sums.

    Raises:
      TypeError: dtypes differ, or an argument is not of its type.
      ValueError: shapes do not fit, an argument is out of its range or contradicts another, or no
        backend serves this dtype and device.

    Reference: Katharopoulos et al., "Transformers are RNNs", 2020, arXiv:2006.16236; Sun et al.,
    "Retentive Network", 2023, arXiv:2307.08621; in chunks as in Yang et al., "Gated Linear
    Attention", 2023, arXiv:2312.06635.
    """
    q, k, v = jax_arguments.arrays(q=q, k=k, v=v)
    return_state = arguments.boolean("return_state", return_state)
    sizes = contract.check_shapes(q.shape, k.shape, v.shape)
    contract.check_dtypes(q.dtype.name, k.dtype.name, v.dtype.name)
    backend = _select(q, sizes)
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
    q, k, v, extras = jax_calls.vary_alike((q, k, v, extras))
    pad_k, pad_v = (contract.head_padding(backend, d) for d in (sizes.key_dim, sizes.value_dim))
    if pad_k or pad_v:
        q, k, v, extras = _pad(q, k, v, extras, (pad_k, pad_v), options)
    operation = _LinearAttention(return_state, options, backend)
    out, _, kv, k_sum = jax_derivatives.call(operation, q, k, v, *extras)
    out = out[..., : sizes.value_dim]
    if not return_state:
        return out
    return out, State(kv[..., : sizes.key_dim, : sizes.value_dim], k_sum[..., : sizes.key_dim])


def explain(q: jax.Array, k: jax.Array, v: jax.Array, **options: Any) -> str:
    """Returns a line for each backend: whether and why `linear_attention` takes it.

    Raises:
      ValueError: shapes do not fit, or no backend serves this dtype and device.
    """
    sizes = contract.check_shapes(q.shape, k.shape, v.shape)
    return contract.explain(jax_calls.device(q), q.dtype.name, sizes)


def linear_attention_step(
    state: State | None,
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    *,
    feature_map: str = "elu",
    normalize: bool = True,
    decay: jax.Array | None = None,
    scale: float | None = None,
    eps: float = contract.DEFAULT_EPS,
) -> tuple[jax.Array, State]:
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
    q, k, v = jax_arguments.arrays(q=q, k=k, v=v)
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


def _select(q: jax.Array, sizes: Sizes) -> str:
    device = jax_calls.device(q)
    backend = contract.select(device, q.dtype.name, sizes)
    if backend == "triton":
        if device != "cuda":
            raise UnsupportedKernelError(
                "linear_attention's triton backend serves JAX on cuda only"
            )
        cubin_loader.ensure_registered(_native)
    return backend


def _decay(q: jax.Array, decay: jax.Array | None, sizes: Sizes) -> jax.Array | None:
    if decay is None:
        return None
    decay = jax_arguments.real_array("decay", decay, or_else=" or None")
    contract.check_decay_shape(decay.shape, sizes)
    return jnp.broadcast_to(decay.astype(jax_calls.sum_dtype(q)), (sizes.batch, sizes.num_heads))


def _state(
    q: jax.Array, state: State | None, sizes: Sizes
) -> tuple[jax.Array | None, jax.Array | None]:
    if state is None:
        return None, None
    contract.check_state(state, sizes)
    kv, k_sum = (
        jax_arguments.real_array(f"the state's {name}", x).astype(jax_calls.sum_dtype(q))
        for name, x in zip(State._fields, state, strict=True)
    )
    return kv, k_sum


def _pad(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    extras: Extras,
    padding: tuple[int, int],
    options: Options,
) -> tuple[jax.Array, jax.Array, jax.Array, Extras]:
    """Adds channels to the heads that change no result."""
    (pad_k, pad_v), value = padding, contract.padding_value(options)

    def pad(x: jax.Array, *widths: int, value: float = 0.0) -> jax.Array:
        before = ((0, 0),) * (x.ndim - len(widths))
        return jnp.pad(x, (*before, *((0, w) for w in widths)), constant_values=value)

    if extras.initial_kv is not None:
        kv, k_sum = pad(extras.initial_kv, pad_k, pad_v), pad(extras.initial_k_sum, pad_k)
        extras = Extras(extras.decay, kv, k_sum)
    return pad(q, pad_k, value=value), pad(k, pad_k, value=value), pad(v, pad_v), extras


@dataclasses.dataclass(frozen=True)
class _LinearAttention:
    """Linear attention as `jax_derivatives` takes it: of q, k, v and the extras.

    The results are those of `_forward`.
    """

    wants_state: bool
    options: Options
    backend: str
    num_differentiable = 3 + len(Extras._fields)
    unbatched = ()

    def forward(self, *inputs: Any) -> tuple[jax.Array, ...]:
        q, k, v, *extras = inputs
        operands = jax_calls.vary_alike((q, k, v, *_present(Extras(*extras), q)))
        return _forward(self.wants_state, self.options, self.backend, *operands)

    def backward(
        self, inputs: Any, outputs: Any, grads: Any, wanted: tuple[int, ...]
    ) -> tuple[jax.Array, ...]:
        q, k, v, *extras = inputs
        out, factor, *final = outputs
        grad_out, _, *grad_final = grads
        grad_out = jnp.zeros_like(out) if grad_out is None else grad_out
        if not self.wants_state or all(g is None for g in grad_final):
            grad_final = [_absent(q)] * 2
        else:
            grad_final = [
                jnp.zeros_like(x) if g is None else g
                for g, x in zip(grad_final, final, strict=True)
            ]
        extras_wanted = 3 in wanted, 4 in wanted or 5 in wanted
        operands = (q, k, v, *_present(Extras(*extras), q), out, factor, grad_out, *grad_final)
        gradients = _backward(
            *extras_wanted, self.options, self.backend, *jax_calls.vary_alike(operands)
        )
        return tuple(gradients[i] for i in wanted)

    def formula(self, *inputs: Any) -> tuple[jax.Array, ...]:
        q, k, v, *extras = inputs
        out, *state = formula_jax.linear_attention(q, k, v, Extras(*extras), self.options)
        # What the kernels make and use of the factor, no formula needs.
        factor = jnp.zeros((q.shape[0], q.shape[2], q.shape[1]), jax_calls.sum_dtype(q))
        return out, factor, *(state if self.wants_state else [_absent(q)] * 2)


def _absent(q: jax.Array) -> jax.Array:
    """What the native code takes for no array."""
    return jnp.zeros((0,), jax_calls.sum_dtype(q))


def _present(extras: Extras, q: jax.Array) -> tuple[jax.Array, ...]:
    """All extras as arrays."""
    return tuple(_absent(q) if x is None else x for x in extras)


def _forward(
    wants_state: bool, options: Options, backend: str, *args: jax.Array
) -> tuple[jax.Array, ...]:
    """Returns out, factor [batch, num_heads, seq_len], final kv and final k_sum.

    From q, k, v and the extras.
    """
    q, k, v, *_ = args
    sizes = contract.check_shapes(q.shape, k.shape, v.shape)
    out = jax_calls.like(q, (*q.shape[:3], sizes.value_dim))
    factor = jax_calls.like(
        q, (sizes.batch, sizes.num_heads, sizes.seq_len), jax_calls.sum_dtype(q)
    )
    shapes = (out, factor, *_state_shapes(q, sizes, wants_state))
    if backend == "reference":

        def spec(q, k, v, *extras):  # type: ignore[no-untyped-def]
            out, state = reference.forward(q, k, v, options, _given(extras))
            # The specification's gradients do not take the factor.
            return out, np.zeros(factor.shape), *(state if wants_state else np.zeros((2, 0)))

        return _callback(spec, shapes, *args)
    workspace = _workspace(q, sizes, backend, backward=False)
    call = jax.ffi.ffi_call("hpc_linear_attention_forward", (*shapes, workspace))
    return tuple(call(*args, **jax_calls.attributes(options))[:-1])


def _backward(
    wants_decay: bool, wants_initial: bool, options: Options, backend: str, *args: jax.Array
) -> tuple[jax.Array, ...]:
    """Returns the gradients of q, k, v and the extras, those of the extras empty unless wanted.

    From q, k, v, the extras, out, factor, grad_out and the gradients of the final state.
    """
    q, k, v, *_ = args
    sizes = contract.check_shapes(q.shape, k.shape, v.shape)
    decay_shape = (sizes.batch, sizes.num_heads) if wants_decay else (0,)
    decay = jax_calls.like(q, decay_shape, jax_calls.sum_dtype(q))
    shapes = (
        jax_calls.like(q),
        jax_calls.like(k),
        jax_calls.like(v),
        decay,
        *_state_shapes(q, sizes, wants_initial),
    )
    if backend == "reference":

        def spec(q, k, v, decay, kv, k_sum, out, factor, grad_out, *final):  # type: ignore[no-untyped-def]
            grad_final = State(*final) if final[0].shape != (0,) else None
            extras = _given((decay, kv, k_sum))
            grads = reference.backward(q, k, v, grad_out, options, extras, grad_final)
            wanted = (True, True, True, wants_decay, wants_initial, wants_initial)
            return [g if w else np.zeros(0) for g, w in zip(grads, wanted, strict=True)]

        return _callback(spec, shapes, *args)
    workspace = _workspace(q, sizes, backend, backward=True)
    call = jax.ffi.ffi_call("hpc_linear_attention_backward", (*shapes, workspace))
    return tuple(call(*args, **jax_calls.attributes(options))[:-1])


def _given(extras: tuple[np.ndarray, ...]) -> Extras:
    """What `_present` was made of."""
    return Extras(*(None if x.shape == (0,) else x for x in extras))


def _state_shapes(q: jax.Array, sizes: Sizes, wanted: bool) -> tuple[jax.ShapeDtypeStruct, ...]:
    shapes = contract.state_shapes(sizes)
    return tuple(
        jax_calls.like(q, shape if wanted else (0,), jax_calls.sum_dtype(q)) for shape in shapes
    )


def _workspace(q: jax.Array, sizes: Sizes, backend: str, *, backward: bool) -> jax.ShapeDtypeStruct:
    size = contract.workspace_bytes(backend, q.dtype.name, sizes, backward=backward)
    return jax_calls.like(q, (size,), jnp.uint8)


def _callback(
    spec: Callable[..., Any], shapes: tuple[jax.ShapeDtypeStruct, ...], *args: jax.Array
) -> tuple[jax.Array, ...]:
    """Runs the numpy specification on the host."""

    def host(*arrays: jax.Array) -> tuple[np.ndarray, ...]:
        results = spec(*map(np.asarray, arrays))
        return tuple(np.asarray(r, s.dtype) for r, s in zip(results, shapes, strict=True))

    return tuple(jax.pure_callback(host, shapes, *args))
