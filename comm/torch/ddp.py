"""The compressed all-reduce as a communication hook of torch's DistributedDataParallel.

    ddp = DistributedDataParallel(model)
    state = CompressionHook(ddp, compression)
    ddp.register_comm_hook(state, compressed_hook)

Nothing else changes: `no_sync` accumulates as ever, and the gradients that backward leaves in
`.grad` are means over the ranks, with the same bits on each. One-dimensional and small parameters
go uncompressed, in float32. What a gradient becomes does not depend on DDP's buckets, which change
after the first step. `//comm:ddp_example` is a program that does all of this.

With a loss scaler, call `state.rescale(new_scale / old_scale)` whenever the scale changes.
"""

import contextlib
import os
from concurrent.futures import Future, ThreadPoolExecutor

import torch
from torch import distributed

from comm.compression import Compression
from comm.torch import agreement, checkpoint
from comm.torch.collectives import all_reduce_vectors
from comm.torch.parts import Plan
from comm.torch.residuals import Residuals
from comm.torch.subgroup import default_group, subgroup
from comm.torch.vectors import Vector
from comm.wire import Wire


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
        shapes = {name: tuple(parameter.shape) for parameter, name in self._names.items()}
        self._residuals = Residuals(shapes, compression)
        self._group = subgroup(distributed.get_process_group_ranks(of), of)
        self._thread = ThreadPoolExecutor(1, "gradient-compression")
        self._stream: torch.cuda.Stream | None = None
        self._jobs: list[Future[None]] = []
        self._failure: BaseException | None = None

    def start(
        self,
        bucket: distributed.GradBucket,
    ) -> torch.futures.Future[torch.Tensor]:
        """Starts to average a bucket; see `compressed_hook`."""
        if self._failure is not None:
            raise self._failure
        buffer = bucket.buffer()
        sizes = {self._names[p]: p.numel() for p in bucket.parameters()}
        done: torch.futures.Future[torch.Tensor] = torch.futures.Future(
            devices=[buffer.device] if buffer.is_cuda else None
        )
        ready = torch.cuda.current_stream(buffer.device).record_event() if buffer.is_cuda else None
        self._jobs.append(self._thread.submit(self._run, buffer, sizes, ready, done))
        if bucket.is_last():
            self._finish()
        return done

    def rescale(self, factor: float) -> None:
        """Multiplies all residuals, when the scale of the loss is multiplied by `factor`."""
        self._residuals.follow(factor * self._residuals.loss_scale)

    def save(self, directory: str | os.PathLike[str]) -> None:
        """Writes the residuals of all ranks; see `checkpoint.save`. Between steps, on every rank.

        Raises:
            OSError: The directory cannot be written.
            CommunicationError: A rank is gone or too slow.
        """
        checkpoint.save(
            directory,
            self._residuals.feedbacks or {},
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
        self._residuals.replace(saved.feedbacks, self._residuals.loss_scale)

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
        sizes: dict[str, int],
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
                    self._average(buffer, sizes)
            finally:
                # Backward learns of errors from `start`; a future that stays open would hang it.
                done.set_result(buffer)

    def _average(self, buffer: torch.Tensor, sizes: dict[str, int]) -> None:
        plan = Plan(self._compression, self._group, step=self.step, wire=self.wire)
        if plan.world_size == 1:
            return
        gradients = dict(zip(sizes, buffer.split(list(sizes.values())), strict=True))
        plain = [x for name, x in gradients.items() if not self._residuals.compresses(name)]
        vectors = [
            self._residuals.vector(name, x, torch.float32)
            for name, x in gradients.items()
            if self._residuals.compresses(name)
        ]
        if plain:
            # As one, since each vector is filled up to whole words for each rank.
            vectors.append(Vector(torch.cat(plain).float(), torch.float32))
        agreed = agreement.begin("all_reduce", vectors, plan, f", gradients of {', '.join(sizes)}")
        all_reduce_vectors(vectors, plan, agreed)
        if plain:
            means = vectors[-1].values.split([x.numel() for x in plain])
            for x, mean in zip(plain, means, strict=True):
                x.copy_(mean)


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
