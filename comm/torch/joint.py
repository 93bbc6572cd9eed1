"""Small parts of a round, quantized by one call.

A call of a kernel costs more than to quantize some thousand values, and networks have many small
weights. So their chunks are laid side by side in one part, whose chunk r is theirs. No block holds
values of two, so no result changes by a bit.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace

import torch

from comm.torch.parts import Part
from kernels.quantize.contract import ROUNDINGS, Codec

# Values from which on copying a part costs more than calls for it alone.
_LARGE = 2**15


def join(batch: Sequence[Part], codec: Codec) -> Sequence[Part]:
    """Returns the parts of a round of an all-reduce, with one in place of several small ones."""
    if ROUNDINGS[codec.rounding] == "stochastic":
        return batch  # noise is counted along each part
    small = [part for part in batch if part.plain_dtype is None and part.size < _LARGE]
    # Chunk r of the whole is chunk r of each, so the same rank is to sum them.
    small = [part for part in small if part.owners == small[0].owners]
    local = [part.local for part in small if part.local is not None]
    owned = [part.owned for part in small if part.owned is not None]
    if len(small) < 2 or len(local) not in (0, len(small)):
        return batch
    values = _beside([part.values for part in small], small)
    joint = replace(
        small[0],
        values=values,
        result=values,
        chunk_size=sum(part.chunk_size for part in small),
        local=_beside(local, small) if local else None,
        owned=torch.cat(owned) if owned else None,
        members=small,
    )
    return [joint, *(part for part in batch if not any(part is other for other in small))]


def give_back_local(joint: Part) -> None:
    """Writes the residuals of this rank's values to those that the part stands for."""
    if joint.members and joint.local is not None:
        _give_back(joint.local, joint, [part.local for part in joint.members])


def give_back_owned(joint: Part) -> None:
    """Writes the residuals of the sums that this rank makes to those that the part stands for."""
    if joint.members and joint.owned is not None:
        residuals = joint.owned.split([part.chunk_size for part in joint.members])
        for part, residual in zip(joint.members, residuals, strict=True):
            if part.owned is not None:
                part.owned.copy_(residual)


def give_back_result(joint: Part) -> None:
    """Writes the sums to those that the part stands for."""
    if joint.members:
        _give_back(joint.result, joint, [part.result for part in joint.members])


def _beside(vectors: Iterable[torch.Tensor], parts: Sequence[Part]) -> torch.Tensor:
    """Returns the chunks of all parts side by side, [num_chunks * sum of chunk_size]."""
    rows = [part.chunks(x) for x, part in zip(vectors, parts, strict=True)]
    return torch.cat(rows, dim=1).flatten()


def _give_back(joined: torch.Tensor, joint: Part, to: Sequence[torch.Tensor | None]) -> None:
    """Undoes `_beside`."""
    sizes = [part.chunk_size for part in joint.members]
    columns = joined.view(joint.num_chunks, joint.chunk_size).split(sizes, dim=1)
    for x, column in zip(to, columns, strict=True):
        if x is not None:
            x.copy_(column.flatten()[: x.numel()])
