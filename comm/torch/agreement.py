"""Ranks compare what they are about to do, before any of them does it.

A collective in which ranks disagree about sizes hangs, fails with a message about bytes or, worst,
ends with numbers that are wrong. So each rank first sends all others a description of fixed size,
which cannot disagree, and quantizes the first piece while the descriptions travel.
"""

import hashlib
import weakref
from collections import defaultdict
from collections.abc import Callable, Sequence

import torch
from torch import distributed

from comm.torch.errors import MismatchError, communicating
from comm.torch.parts import Plan
from comm.torch.vectors import Vector
from kernels.quantize.contract import FORMATS, ROUNDINGS

_DIGEST_BYTES = 32
_RECORD_BYTES = 384

# What was compared before. Only groups of CUDA tensors rely on it: there, reading what arrived
# would make the host wait for the device at every step.
_agreed: weakref.WeakKeyDictionary[distributed.ProcessGroup, set[str]] = weakref.WeakKeyDictionary()


def begin(
    collective: str, vectors: Sequence[Vector], plan: Plan, details: str = ""
) -> Callable[[], None]:
    """Starts to compare what the ranks of a group are about to do.

    Args:
        collective: Its name.
        vectors: What it is about to be done to, one or more.
        plan: Of the call; all ranks of its group call this.
        details: What else must be the same on every rank.

    Returns:
        A function that waits for the others' descriptions and raises MismatchError, which names
        the ranks and what each has, or CommunicationError.
    """
    description = f"{_describe(collective, vectors, plan)}{details}"
    return begin_text(description, plan.group, vectors[0].values.device)


def _describe(collective: str, vectors: Sequence[Vector], plan: Plan) -> str:
    """Returns all that must be the same on every rank for a collective to be right."""
    compression, codec = plan.compression, plan.codec
    node = compression.ranks_per_node
    dtypes = dict.fromkeys(str(v.values.dtype).removeprefix("torch.") for v in vectors)
    error_feedback = any(vector.feedback is not None for vector in vectors)
    return (
        f"{collective} of {sum(v.size for v in vectors)} {'/'.join(dtypes)} values, "
        f"{'mean' if plan.average else 'sum'}, {FORMATS[codec.format].name} in blocks of "
        f"{codec.block_size} rounded to {ROUNDINGS[codec.rounding]}, "
        f"bucket_bytes {compression.bucket_bytes}, min_size {compression.min_size}, "
        f"seed {compression.seed}, {'with' if error_feedback else 'without'} error feedback, "
        f"{'one level' if node is None else f'{node} ranks a node'}, "
        f"vectors of {[(v.size, v.plain_dtype) for v in vectors]}"
    )


def begin_text(
    description: str, group: distributed.ProcessGroup, device: torch.device
) -> Callable[[], None]:
    """Starts to compare descriptions, of which the first 350 bytes travel and the rest is hashed.

    Args:
        description: What this rank is about to do.
        group: All its ranks call this.
        device: One that the group can send from.

    Returns:
        As `begin`.
    """
    on_device = device.type != "cpu"
    known = _agreed.setdefault(group, set())
    if on_device and description in known:
        return lambda: None
    world_size = distributed.get_world_size(group)
    record = _encode(description).to(device)
    records = [torch.empty_like(record) for _ in range(world_size)]
    what = "comparing what the ranks are about to do"
    with communicating(what, group):
        work = distributed.all_gather(records, record, group=group, async_op=True)

    def finish() -> None:
        with communicating(what, group):
            work.wait()
        _compare(torch.stack(records).cpu())
        known.add(description)

    return finish


def _encode(description: str) -> torch.Tensor:
    text = description.encode()
    record = hashlib.sha256(text).digest() + text[: _RECORD_BYTES - _DIGEST_BYTES]
    return torch.frombuffer(bytearray(record.ljust(_RECORD_BYTES, b"\0")), dtype=torch.uint8)


def _compare(records: torch.Tensor) -> None:
    """Raises MismatchError unless all rows are equal."""
    if bool((records == records[0]).all()):
        return
    ranks_by_record: dict[bytes, list[int]] = defaultdict(list)
    for rank, row in enumerate(records):
        ranks_by_record[bytes(row.tolist())].append(rank)
    lines = []
    for record, ranks in ranks_by_record.items():
        text = record[_DIGEST_BYTES:].rstrip(b"\0").decode(errors="replace")
        plural = "s" if len(ranks) > 1 else ""
        lines.append(f"  rank{plural} {', '.join(map(str, ranks))}: {text}")
    raise MismatchError(
        "the ranks of a group must call the same collective with the same sizes, dtypes and "
        "settings, but\n" + "\n".join(lines)
    )
