"""The residuals of a model's parameters, by name.

They are kept whole for each parameter, so that they depend neither on how DeepSpeed fills its
buckets nor on which rank owns what. That is 4 bytes a parameter on every rank, under stages 2 and 3
too: what a rank lost of its own gradient nobody else knows.

They are in the units of the gradients, which a loss scaler multiplies. When it changes its scale,
they change with it.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping

import torch

from comm.torch.feedback import Feedback
from comm.torch.zero_parts import Part


class Residuals:
    """What quantization has lost so far.

    Attributes:
        feedbacks: By parameter, of those that were reduced at least once. None: error feedback is
            off.
        loss_scale: Of the gradients that the residuals are of.
        ranks_per_node: As given.
    """

    def __init__(
        self,
        sizes: Mapping[str, int],
        *,
        error_feedback: bool,
        ranks_per_node: int | None = None,
    ) -> None:
        """Starts with nothing lost.

        Args:
            sizes: Values in each parameter, by name.
            error_feedback: Whether anything is to be kept.
            ranks_per_node: Ranks that share out the residuals of what they have summed.
        """
        self.ranks_per_node = ranks_per_node
        self.feedbacks: dict[str, Feedback] | None = {} if error_feedback else None
        self.loss_scale = 1.0
        self._sizes = dict(sizes)
        self._local: dict[str, torch.Tensor] = {}
        self._owned: dict[tuple[str, int], torch.Tensor] = {}
        self._offsets: dict[str, int] = {}
        offset = 0
        for name, size in sizes.items():
            self._offsets[name] = offset
            offset += size

    def offset(self, part: Part) -> int:
        """Returns the index of a part's first value in the model, for stochastic rounding."""
        return self._offsets[part.gradient.name] + part.start

    def rescale(self, loss_scale: float) -> None:
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

    def prepare(self, parts: Iterable[Part], rank: int, *, everywhere: bool) -> None:
        """Makes room for the residuals of parts, before their first reduction.

        Args:
            parts: All those of each parameter that is among them.
            rank: This one's, in the group.
            everywhere: Means are quantized too, on the ranks that make them.
        """
        if self.feedbacks is None:
            return
        by_name: dict[str, list[Part]] = defaultdict(list)
        for part in parts:
            if part.compressed:
                by_name[part.gradient.name].append(part)
        for name, of_name in by_name.items():
            spans = [_owned_span(part, rank) for part in of_name] if everywhere else []
            size = self._sizes[name]
            feedback = self.feedbacks.setdefault(name, Feedback())
            device = of_name[0].values.device
            self._local[name], owned = feedback.prepare(size, (0, size), spans, device)
            for part, buffer in zip(of_name, owned, strict=False):
                self._owned[name, part.start] = buffer

    def feedback(self, name: str) -> Feedback | None:
        """Returns the residuals of a parameter that is reduced as one vector."""
        return None if self.feedbacks is None else self.feedbacks.setdefault(name, Feedback())

    def local(self, part: Part) -> torch.Tensor | None:
        """Returns what this rank lost of its own gradient, for a part."""
        if self.feedbacks is None:
            return None
        return self._local[part.gradient.name][part.start : part.stop]

    def owned(self, part: Part) -> torch.Tensor | None:
        """Returns what this rank lost of the means of its chunk of a part, [chunk_size]."""
        return None if self.feedbacks is None else self._owned[part.gradient.name, part.start]


def _owned_span(part: Part, rank: int) -> tuple[int, int, int]:
    """Returns (start, stop, size of the buffer) of a rank's chunk, which may be empty."""
    start = min(part.start + (rank - part.owner) * part.chunk_size, part.stop)
    return start, min(start + part.chunk_size, part.stop), part.chunk_size
