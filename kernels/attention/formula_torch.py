"""Attention's formula in PyTorch's own operations, for the derivatives that no kernel computes.

It is the specification of `reference.py` line by line, but keeps a matrix of scores.
"""

import torch

from kernels.attention.contract import UNBOUNDED, Extras, Options


def attention(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, extras: Extras, options: Options
) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns out and lse as the operator does.

    Args:
      q: [B, Sq, H, D].
      k: [B, Sk, G, D].
      v: as k.
      extras: see `contract.Extras`.
      options: see `contract.Options`.

    Returns:
      out [B, Sq, H, D] in the dtype of q and lse [B, H, Sq] in the type of the sums.
    """
    sums = torch.float64 if q.dtype == torch.float64 else torch.float32
    with torch.autocast(q.device.type, enabled=False):
        out, lse = _attention(q.to(sums), k.to(sums), v.to(sums), extras, options)
        return out.to(q.dtype), lse


def _attention(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, extras: Extras, options: Options
) -> tuple[torch.Tensor, torch.Tensor]:
    seq_q, seq_k, group = q.shape[1], k.shape[1], q.shape[2] // k.shape[2]
    seen = _visible(q, k, extras, options)
    # What takes no part may be anything, infinite too: 0 times it is not 0.
    q = torch.where(seen.any(dim=2)[..., None, None], q, 0.0)
    k, v = (torch.where(seen.any(dim=1)[..., None, None], x, 0.0) for x in (k, v))
    q = _rotate(q, max(seq_k - seq_q, 0), extras, options)
    k = _rotate(k, max(seq_q - seq_k, 0), extras, options)
    k, v = (x.repeat_interleave(group, dim=2) for x in (k, v))
    scores = options.softmax_scale * torch.einsum("bihd,bjhd->bhij", q, k)
    if options.softcap:
        scores = options.softcap * torch.tanh(scores / options.softcap)
    if extras.alibi_slopes is not None:
        distance = _distance(seq_q, seq_k, q.device).abs()
        scores = scores - extras.alibi_slopes[..., None, None] * distance
    probabilities, lse = _softmax(scores, seen[:, None])
    if options.dropout_rate:
        probabilities = probabilities * _dropout_keep(scores, extras, options)
    out = torch.einsum("bhij,bjhd->bihd", probabilities, v)
    # Zeros already, but so the gradient of a row that sees nothing is not looked at.
    return torch.where(seen.any(dim=2)[..., None, None], out, 0.0), lse


def _softmax(scores: torch.Tensor, seen: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Probabilities [B, H, Sq, Sk] and log-sum-exp [B, H, Sq]."""
    # One more column, for there may be no key.
    seen_scores = scores.detach().masked_fill(~seen, -torch.inf)
    maximum = torch.nn.functional.pad(seen_scores, (0, 1), value=-torch.inf).amax(-1, keepdim=True)
    sees_any = seen.any(dim=-1, keepdim=True)
    maximum = torch.where(sees_any, maximum, 0.0)
    # Chosen before and after, for the derivative of what is not chosen is multiplied by 0.
    shifted = torch.where(seen, scores - maximum, 0.0)
    exponentials = torch.where(seen, shifted.exp(), 0.0)
    total = torch.where(sees_any, exponentials.sum(dim=-1, keepdim=True), 1.0)
    lse = torch.where(sees_any, maximum + total.log(), -torch.inf)
    return exponentials / total, lse.squeeze(-1)


def _rotate(x: torch.Tensor, first_row: int, extras: Extras, options: Options) -> torch.Tensor:
    """Turns the channel pairs of x [B, S, heads, D] by the rows of the tables from first_row on."""
    width = options.rotary_dim
    if not width:
        return x
    cos, sin = (t[first_row : first_row + x.shape[1], None] for t in extras[1:3])
    turned, rest = x[..., :width], x[..., width:]
    if options.rotary_interleaved:
        first, second = turned[..., 0::2], turned[..., 1::2]
    else:
        first, second = turned[..., : width // 2], turned[..., width // 2 :]
    pair = first * cos - second * sin, first * sin + second * cos
    if options.rotary_interleaved:
        turned = torch.stack(pair, dim=-1).flatten(-2)
    else:
        turned = torch.cat(pair, dim=-1)
    return torch.cat((turned, rest), dim=-1)


def _visible(q: torch.Tensor, k: torch.Tensor, extras: Extras, options: Options) -> torch.Tensor:
    """Which query sees which key, [B, Sq, Sk]."""
    distance = _distance(q.shape[1], k.shape[1], q.device)
    seen = torch.ones_like(distance, dtype=torch.bool)
    if options.window_left != UNBOUNDED:
        seen = seen & (distance <= options.window_left)
    if options.window_right != UNBOUNDED:
        seen = seen & (-distance <= options.window_right)
    seen = seen.expand(q.shape[0], *distance.shape)
    if extras.q_segments is not None:
        (queries, are_queries), (keys, are_keys) = map(
            _segments, (extras.q_segments, extras.kv_segments)
        )
        seen = seen & (queries[:, :, None] == keys[:, None, :])
        seen = seen & are_queries[:, :, None] & are_keys[:, None, :]
    return seen


def _segments(ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids as int64, and which are of no padding; torch compares no unsigned ones."""
    bits = ids.to(torch.int64)
    # From 2^63 on those of uint64 look negative.
    return bits, torch.ones_like(bits, dtype=torch.bool) if ids.dtype == torch.uint64 else bits >= 0


def _distance(seq_q: int, seq_k: int, device: torch.device) -> torch.Tensor:
    """Position of query i less that of key j, [Sq, Sk]."""
    queries = torch.arange(seq_q, device=device) + (seq_k - seq_q)
    return queries[:, None] - torch.arange(seq_k, device=device)


def _dropout_keep(scores: torch.Tensor, extras: Extras, options: Options) -> torch.Tensor:
    """Factors of the probabilities [B, H, Sq, Sk]: 0 where dropped; see dropout.h."""
    _, num_heads, seq_q, seq_k = scores.shape
    golden, bits = 0x9E3779B9, 0xFFFFFFFF
    # 64 bits whose lower 32 count.
    heads, queries, keys = (
        torch.arange(n, device=scores.device) for n in (num_heads, seq_q, seq_k)
    )
    seeds = extras.dropout_seeds.to(torch.int64) & bits
    head_keys = _mix(seeds[:, None] + (heads + 1) * golden)
    query_keys = _mix(head_keys[..., None] + queries)
    drawn = _mix(query_keys[..., None] ^ _mix((keys + 1) * golden))
    kept = drawn >= int(options.dropout_rate * 2**32)
    return kept.to(scores.dtype) / (1.0 - options.dropout_rate)


def _mix(x: torch.Tensor) -> torch.Tensor:
    bits = 0xFFFFFFFF
    x = x & bits
    x = ((x ^ (x >> 16)) * 0x7FEB352D) & bits
    x = ((x ^ (x >> 15)) * 0x846CA68B) & bits
    return x ^ (x >> 16)
