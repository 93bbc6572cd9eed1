"""Linear attention's formula in PyTorch's own operations, for derivatives that no kernel computes.

It is the specification of `reference.py` line by line, quadratic in the length.
"""

import torch

from kernels.linear_attention.contract import FEATURE_MAPS, Extras, Options


def linear_attention(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, extras: Extras, options: Options
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Returns the output and the final state.

    Args:
      q: [B, S, H, Dk].
      k: [B, S, G, Dk].
      v: [B, S, G, Dv].
      extras: see `contract.Extras`.
      options: see `contract.Options`.

    Returns:
      out [B, S, H, Dv] in the dtype of q; kv [B, H, Dk, Dv] and k_sum [B, H, Dk] in the type of the
      sums.
    """
    sums = torch.float64 if q.dtype == torch.float64 else torch.float32
    with torch.autocast(q.device.type, enabled=False):
        out, kv, k_sum = _linear_attention(q.to(sums), k.to(sums), v.to(sums), extras, options)
        return out.to(q.dtype), kv, k_sum


def _linear_attention(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, extras: Extras, options: Options
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    batch, _, num_heads, key_dim = q.shape
    phi_q = _features(q, options)
    phi_k = _features(k, options).repeat_interleave(num_heads // k.shape[2], dim=2)
    v = v.repeat_interleave(num_heads // v.shape[2], dim=2)
    initial_kv, initial_k_sum = extras.initial_kv, extras.initial_k_sum
    if initial_kv is None:
        initial_kv = q.new_zeros((batch, num_heads, key_dim, v.shape[3]))
        initial_k_sum = q.new_zeros((batch, num_heads, key_dim))
    weights, age, rest, length = _powers(q, extras.decay, options)

    scores = torch.einsum("bihd,bjhd->bhij", phi_q, phi_k) * weights
    numerator = torch.einsum("bhij,bjhe->bihe", scores, v)
    numerator = numerator + torch.einsum("bihd,bhde,bih->bihe", phi_q, initial_kv, age)
    if options.normalize:
        denominator = torch.einsum("bhij->bih", scores)
        denominator = denominator + torch.einsum("bihd,bhd,bih->bih", phi_q, initial_k_sum, age)
        out = numerator / (denominator + options.eps)[..., None]
    else:
        out = options.scale * numerator
    kv = torch.einsum("bjhd,bjhe,bjh->bhde", phi_k, v, rest)
    k_sum = torch.einsum("bjhd,bjh->bhd", phi_k, rest)
    kv = kv + length[..., None, None] * initial_kv
    return out, kv, k_sum + length[..., None] * initial_k_sum


def _powers(
    q: torch.Tensor, decay: torch.Tensor | None, options: Options
) -> tuple[torch.Tensor, ...]:
    """Powers of the decay.

    Returns:
      What weighs a token for a query [B, H, S, S], the initial state for a query and a token for
      the final state [B, S, H], the initial state for the final one [B, H].
    """
    batch, seq_len, num_heads, _ = q.shape
    tokens = torch.arange(seq_len, device=q.device)
    distance = tokens[:, None] - tokens
    visible = (distance >= 0) if options.causal else torch.ones_like(distance, dtype=torch.bool)
    if decay is None:
        weights = visible.to(q.dtype).expand(batch, num_heads, seq_len, seq_len)
        ones = q.new_ones((batch, seq_len, num_heads))
        return weights, ones, ones, q.new_ones((batch, num_heads))
    powers = decay[..., None, None] ** distance.clamp(min=0)
    return (
        torch.where(visible, powers, 0.0),
        decay[:, None] ** (tokens + 1)[:, None],
        decay[:, None] ** tokens.flip(0)[:, None],
        decay**seq_len,
    )


def _features(x: torch.Tensor, options: Options) -> torch.Tensor:
    name = FEATURE_MAPS[options.feature_map]
    if name == "elu":
        return torch.where(x > 0, x + 1, x.clamp(max=0).exp())
    return torch.relu(x) if name == "relu" else x
