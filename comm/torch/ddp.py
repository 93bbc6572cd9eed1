"""The compressed all-reduce as a communication hook of torch's DistributedDataParallel.

    ddp = DistributedDataParallel(model)
    state = CompressionHook(ddp, compression)
    ddp.register_comm_hook(state, compressed_hook)

Nothing else changes: `no_sync` accumulates as ever, and the gradients that backward leaves in
`.grad` are means over the ranks, with the same bits on each. One-dimensional and small parameters
go uncompressed, in float32. No block holds values of two parameters, so what a gradient becomes
does not depend on DDP's buckets, which change after the first step.

With a loss scaler, call `state.rescale(new_scale / old_scale)` whenever the scale changes.
"""

import contextlib
import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import torch
from torch import distributed

from comm.compression import Compression
from comm.torch import agreement, checkpoint, collectives
from comm.torch.bucket_layout import BucketLayout, Vector, bucket_layout
from comm.torch.feedback import Feedback, Whole
from comm.torch.relayout import join, split
from comm.torch.subgroup import default_group, subgroup
from comm.torch.uncompressed import all_gather, begin_reduce_scatter
from comm.wire import Wire, all_reduce_bytes

_FLOAT32_BYTES = 4


class CompressionHook:
    """The state of `compressed_hook`.

    The hook sends from a thread and a process group of its own, so that backward goes on.

    Attributes:
        wire: Counts the bytes that this rank sends.
        step: Number of the next step.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        compression: Compression,
        group: distributed.ProcessGroup | None = None,
    ) -> None:
        """Makes the state of a model's hook; every rank of the group calls this.

        Args:
            model: The DistributedDataParallel, or the module inside.
            compression: How gradients travel.
            group: The DistributedDataParallel's; the default group unless given.
        """
        of = default_group(group)
        inner = getattr(model, "module", model)
        self.wire = Wire()
        self.step = 0
        self._compression = compression
        self._names = {parameter: name for name, parameter in inner.named_parameters()}
        self._group = subgroup(distributed.get_process_group_ranks(of), of)
        self._thread = ThreadPoolExecutor(1, "gradient-compression")
        self._stream: torch.cuda.Stream | None = None
        self._jobs: list[Future[None]] = []
        self._failure: BaseException | None = None
        self._buckets: dict[tuple[str, ...], _Bucket] = {}
        # By parameter: loaded, or of buckets that are no more; the next bucket takes them over.
        self._residuals: dict[str, Whole] = {}

    def start(
        self,
        bucket: distributed.GradBucket,
    ) -> torch.futures.Future[torch.Tensor]:
        """Starts to average a bucket; see `compressed_hook`."""
        if self._failure is not None:
            raise self._failure
        buffer = bucket.buffer()
        parameters = {self._names[p]: tuple(p.shape) for p in bucket.parameters()}
        done: torch.futures.Future[torch.Tensor] = torch.futures.Future(
            devices=[buffer.device] if buffer.is_cuda else None
        )
        ready = torch.cuda.current_stream(buffer.device).record_event() if buffer.is_cuda else None
        self._jobs.append(self._thread.submit(self._run, buffer, parameters, ready, done))
        if bucket.is_last():
            self._finish()
        return done

    def rescale(self, factor: float) -> None:
        """Multiplies all residuals, when the scale of the loss is multiplied by `factor`."""
        for bucket in self._buckets.values():
            for _, feedback in bucket.residuals():
                feedback.rescale(factor)
        for whole in self._residuals.values():
            for tensor in whole:
                if tensor is not None:
                    tensor.mul_(factor)

    def save(self, directory: str | os.PathLike[str]) -> None:
        """Writes the residuals of all ranks; see `checkpoint.save`. Between steps, on every rank.

        Raises:
            OSError: The directory cannot be written.
            CommunicationError: A rank is gone or too slow.
        """
        feedbacks = {}
        for bucket in self._buckets.values():
            for vector, feedback in bucket.residuals():
                for name, offset, size in vector.parts:
                    feedbacks[name] = feedback.part(offset, offset + size)
        for name, (local, owned) in self._residuals.items():
            feedbacks[name] = Feedback()
            feedbacks[name].inherit(local, owned)
        checkpoint.save(
            directory,
            feedbacks,
            group=self._group,
            ranks_per_node=self._compression.ranks_per_node,
            step=self.step,
        )

    def load(self, directory: str | os.PathLike[str]) -> None:
        """Replaces the residuals and the step's number by those of a checkpoint, on every rank.

        Raises:
            CheckpointError: The directory holds no complete set; see `checkpoint.load`.
        """
        saved = checkpoint.load(
            directory, group=self._group, ranks_per_node=self._compression.ranks_per_node
        )
        self.step = saved.step
        self._buckets.clear()
        self._residuals = {
            name: feedback.inherited
            for name, feedback in saved.feedbacks.items()
            if feedback.inherited is not None
        }

    def _finish(self) -> None:
        """Waits for this step's buckets: all gradients are there, nothing is left to overlap."""
        try:
            for job in self._jobs:
                job.result()
        except BaseException as error:
            self._failure = error
            raise
        finally:
            self._jobs.clear()
        self.step += 1

    def _run(
        self,
        buffer: torch.Tensor,
        parameters: dict[str, tuple[int, ...]],
        ready: torch.cuda.Event | None,
        done: torch.futures.Future[torch.Tensor],
    ) -> None:
        """Averages a bucket, on the hook's thread and, of a GPU, on a stream of its own."""
        stream: contextlib.AbstractContextManager[object] = contextlib.nullcontext()
        if ready is not None:
            # One for all buckets: buffers are used again on the same stream only.
            self._stream = self._stream or torch.cuda.Stream(buffer.device)
            self._stream.wait_event(ready)
            stream = torch.cuda.stream(self._stream)
        with stream:
            try:
                if not any(job.done() and job.exception() for job in self._jobs):
                    self._average(buffer, parameters)
            finally:
                # Backward learns of errors from `start`; a future that stays open would hang it.
                done.set_result(buffer)

    def _average(self, buffer: torch.Tensor, parameters: dict[str, tuple[int, ...]]) -> None:
        if distributed.get_world_size(self._group) == 1:
            return
        bucket = self._bucket(buffer, parameters)
        plain, vectors = bucket.layout.take(buffer)
        wait = self._average_plain(plain)
        collectives.all_reduce_coalesced(
            vectors,
            self._compression,
            group=self._group,
            feedbacks=bucket.feedbacks,
            step=self.step,
            wire=self.wire,
        )
        wait()
        self._discount(*bucket.layout.num_zeros)
        bucket.layout.put_back(buffer, plain, vectors)

    def _average_plain(self, plain: torch.Tensor) -> Callable[[], None]:
        """Starts to average what is not compressed; what is returned waits for it."""
        if not plain.numel():
            return lambda: None
        world_size = distributed.get_world_size(self._group)
        num_bytes = all_reduce_bytes(plain.nbytes, world_size)
        self.wire.add(num_bytes, num_bytes)
        shares = begin_reduce_scatter(plain, self._group, "plain shares")
        return lambda: all_gather(plain, shares().div_(world_size), self._group)

    def _discount(self, plain_zeros: int, vector_zeros: int) -> None:
        """Takes from what float32 would have sent the zeros that only we send."""
        world_size = distributed.get_world_size(self._group)
        per_node = self._compression.ranks_per_node or 1
        between_nodes = all_reduce_bytes(
            _FLOAT32_BYTES * vector_zeros / per_node, world_size // per_node
        )
        plain = all_reduce_bytes(_FLOAT32_BYTES * plain_zeros, world_size)
        self.wire.add(0, -plain - between_nodes)

    def _bucket(self, buffer: torch.Tensor, parameters: dict[str, tuple[int, ...]]) -> "_Bucket":
        """Returns a bucket's layout and residuals, which come from older buckets if it is new."""
        key = tuple(parameters)
        if key not in self._buckets:
            # Before anything else is sent: the rest is right only if all ranks have this bucket.
            shapes = " + ".join(f"{name} {list(shape)}" for name, shape in parameters.items())
            dtype = str(buffer.dtype).removeprefix("torch.")
            what = f"average the {dtype} gradients of {shapes}"
            agreement.check(what, self._group, buffer.device)
            self._dissolve(set(parameters))
            world_size = distributed.get_world_size(self._group)
            layout = bucket_layout(self._compression, parameters, world_size)
            feedbacks: list[Feedback | None] = [None] * len(layout.vectors)
            if self._compression.error_feedback:
                feedbacks = [join(v.parts, v.size, self._residuals) for v in layout.vectors]
            for name in parameters:
                self._residuals.pop(name, None)
            self._buckets[key] = _Bucket(layout, feedbacks)
        return self._buckets[key]

    def _dissolve(self, names: set[str]) -> None:
        """Takes the residuals out of the buckets that hold any of these parameters."""
        for key in [key for key in self._buckets if names & set(key)]:
            layout, feedbacks = self._buckets.pop(key)
            for vector, feedback in zip(layout.vectors, feedbacks, strict=True):
                if feedback is not None:
                    per_node = self._compression.ranks_per_node
                    self._residuals |= split(feedback, vector.parts, self._group, per_node)


class _Bucket(NamedTuple):
    layout: BucketLayout
    feedbacks: list[Feedback | None]

    def residuals(self) -> Iterator[tuple[Vector, Feedback]]:
        """Yields the vectors that have residuals, and those."""
        for vector, feedback in zip(self.layout.vectors, self.feedbacks, strict=True):
            if feedback is not None:
                yield vector, feedback


def compressed_hook(
    state: CompressionHook,
    bucket: distributed.GradBucket,
) -> torch.futures.Future[torch.Tensor]:
    """Averages a bucket of gradients over the ranks: the hook to register.

    Returns:
        A future of the bucket's buffer, in which the means replace the gradients.

    Raises:
        MismatchError: Ranks disagree about buckets or settings.
        CommunicationError: A rank is gone or too slow. Of this bucket or an earlier one of the
            step; `backward` raises it, at the latest with its last bucket.
    """
    return state.start(bucket)
