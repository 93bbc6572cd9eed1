"""The residuals of a model's parameters, by name.

They are kept for each parameter, so that they depend neither on the buckets in which a framework
hands out gradients nor on which rank owns what. That is 4 bytes a parameter on every rank, under
ZeRO 2 and 3 too: what a rank lost of its own gradient nobody else knows.

They are in the units of the gradients, which a loss scaler multiplies. When it changes its scale,
they change with it.
"""

import itertools
from collections.abc import Mapping

import torch

from comm.compression import Compression, compresses
from comm.torch.feedback import Feedback
from comm.torch.vectors import Vector


class Residuals:
    """What quantization has lost so far.

    Attributes:
        feedbacks: By parameter, of those that were reduced at least once. None: error feedback is
            off.
        loss_scale: Of the gradients that the residuals are of.
        ranks_per_node: Ranks that share out the residuals, or None.
    """

    def __init__(self, shapes: Mapping[str, tuple[int, ...]], compression: Compression) -> None:
        """Starts with nothing lost.

        Args:
            shapes: Of the parameters, by name.
            compression: Says whether anything is to be kept.
        """
        self.feedbacks: dict[str, Feedback] | None = {} if compression.error_feedback else None
        self.loss_scale = 1.0
        self.ranks_per_node = compression.ranks_per_node
        self._compression = compression
        self._shapes = dict(shapes)
        sizes = [torch.Size(shape).numel() for shape in shapes.values()]
        starts = itertools.accumulate(sizes, initial=0)
        self._offsets = dict(zip(shapes, starts, strict=False))

    def compresses(self, name: str) -> bool:
        """Whether a parameter's gradient travels in 8 bits."""
        return compresses(self._compression, self._shapes[name])

    def vector(self, name: str, values: torch.Tensor, plain_dtype: torch.dtype) -> Vector:
        """Returns a parameter's gradient with its residuals.

        Args:
            name: Of the parameter.
            values: [n], contiguous.
            plain_dtype: In which it travels if it is not compressed.
        """
        if not self.compresses(name):
            return Vector(values, plain_dtype)
        feedback = None
        if self.feedbacks is not None:
            feedback = self.feedbacks.setdefault(name, Feedback())
        return Vector(values, feedback=feedback, offset=self._offsets[name])

    def follow(self, loss_scale: float) -> None:
        """Brings the residuals to the units of gradients of a loss scaled by `loss_scale`.

        Exact for powers of two, between which loss scalers move.
        """
        if loss_scale == self.loss_scale:
            return
        for feedback in (self.feedbacks or {}).values():
            feedback.rescale(loss_scale / self.loss_scale)
        self.loss_scale = loss_scale

    def replace(self, feedbacks: Mapping[str, Feedback], loss_scale: float) -> None:
        """Takes the residuals of a checkpoint, in the units of a loss scale; none: all are 0."""
        self.loss_scale = loss_scale
        if self.feedbacks is not None:
            self.feedbacks = dict(feedbacks)

    def fold_owned(self) -> None:
        """Adds what is pending of sums that were loaded to every rank's own, for reduce-scatter.

        What is pending of the mean over ranks, mean(local) + owned, stays as it was.
        """
        for feedback in (self.feedbacks or {}).values():
            if feedback.inherited is not None:
                local, owned = feedback.inherited
                feedback.inherit(local if owned is None else local + owned, None)
