"""Segment ids of any integer type as the int32 that attention's kernels compare, for PyTorch."""

import torch

_LARGEST = torch.iinfo(torch.int32).max
_NARROW = (torch.int8, torch.int16, torch.int32, torch.uint8, torch.uint16)


def narrow(q_ids: torch.Tensor, kv_ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns int32 ids that group queries and keys as the given ones do.

    Ids beyond 31 bits are numbered anew, by a sort. On CUDA that is done with wide types whatever
    the ids are, since looking at them would make the CPU wait.

    Args:
      q_ids: [batch, seq_q] integers; those below 0 are padding.
      kv_ids: [batch, seq_k], the same.
    """
    if q_ids.dtype in _NARROW and kv_ids.dtype in _NARROW:
        return q_ids.to(torch.int32), kv_ids.to(torch.int32)
    # Bits of uint64 from 2 ** 63 on look negative, and are not padding.
    bits = torch.cat((q_ids.to(torch.int64), kv_ids.to(torch.int64)), dim=1)
    signed = torch.cat([_signed(x) for x in (q_ids, kv_ids)], dim=1)
    padding = signed & (bits < 0)
    fits = padding | ((bits >= 0) & (bits <= _LARGEST))
    if bits.is_cuda or not bool(fits.all()):
        bits = _ranks(bits)
    ids = bits.masked_fill(padding, -1).to(torch.int32)
    return ids[:, : q_ids.shape[1]].contiguous(), ids[:, q_ids.shape[1] :].contiguous()


def _signed(ids: torch.Tensor) -> torch.Tensor:
    return torch.full(ids.shape, ids.dtype != torch.uint64, device=ids.device)


def _ranks(ids: torch.Tensor) -> torch.Tensor:
    """The rank of each id among the different ones of its row."""
    ordered, order = ids.sort(dim=1)
    rank = torch.zeros_like(order)
    rank[:, 1:] = (ordered[:, 1:] != ordered[:, :-1]).cumsum(dim=1)
    return torch.empty_like(rank).scatter_(1, order, rank)
