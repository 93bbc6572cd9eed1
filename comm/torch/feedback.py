"""What quantization has lost so far, to be added to what is sent next.

Two residuals for a vector: `local`, what this rank lost of its own values before the sum; and
`owned`, what was lost of the sums that this rank made for all. With `average` the pending
correction of an element, to be seen in later results, is the mean of the ranks' local residuals
plus the owned one.

Reference: Seide et al., "1-Bit Stochastic Gradient Descent", 2014; Karimireddy et al., "Error
Feedback Fixes SignSGD and other Gradient Compression Schemes", 2019, arXiv:1901.09847; two
residuals as in Tang et al., "DoubleSqueeze", 2019, arXiv:1905.05957.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch


@dataclass
class Span:
    """Residuals of part of a vector.

    Attributes:
        start: Index of the part's first value.
        stop: Index after its last.
        buffer: Float32, contiguous. May be longer than the part, by zeros: a chunk of the last
            ranks may reach beyond what is sent at once.
    """

    start: int
    stop: int
    buffer: torch.Tensor

    @property
    def values(self) -> torch.Tensor:
        """The residuals [stop - start], a view."""
        return self.buffer[: self.stop - self.start]


# The local residual [size] of a vector as this rank has it, and the owned one [size] of all ranks;
# float32. None: zeros.
Whole = tuple[torch.Tensor, torch.Tensor | None]


class Feedback:
    """The residuals of one vector on one rank. A new one is empty and is filled at its first use.

    Attributes:
        size: Values in the vector; 0 as long as nothing is known of it.
        local: Of this rank's values: all of them, or, between nodes, of its share.
        owned: Of the sums that this rank makes; none for reduce-scatter.
        inherited: What `inherit` was given, until the first use takes this rank's parts of it.
    """

    def __init__(self) -> None:
        self.size = 0
        self.local: Span | None = None
        self.owned: tuple[Span, ...] = ()
        self.inherited: Whole | None = None

    def prepare(
        self,
        size: int,
        local: tuple[int, int],
        owned: Sequence[tuple[int, int, int]],
        device: torch.device,
    ) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Returns the buffers of this rank's parts; collectives call it.

        It allocates at the first use; later it only checks.

        Args:
            size: Values in the vector.
            local: (start, stop) of the values that this rank quantizes before the sum.
            owned: (start, stop, size of the buffer) of those it quantizes after the sum.
            device: Where the vector is.

        Raises:
            ValueError: These are not the parts of the last use: one Feedback serves one vector and
                one kind of collective.
        """
        if self.local is None:
            old_local, old_owned = self._take_inherited(size)
            self.size = size
            self.local = _cut(old_local, *local, local[1] - local[0], device)
            self.owned = tuple(_cut(old_owned, *part, device) for part in owned)
        spans = [(span.start, span.stop, span.buffer.numel()) for span in self.owned]
        held = (self.size, (self.local.start, self.local.stop), spans)
        if held != (size, local, list(owned)):
            raise ValueError(
                f"this Feedback holds the residuals of {self.size} values and was given a vector "
                f"of {size}, or one that is cut otherwise: use one Feedback for each vector"
            )
        return self.local.buffer, [span.buffer for span in self.owned]

    def _take_inherited(self, size: int) -> Whole | tuple[None, None]:
        inherited, self.inherited = self.inherited, None
        if inherited is None:
            return None, None
        if inherited[0].numel() != size:
            raise ValueError(
                f"the residuals that were loaded are of {inherited[0].numel()} values and the "
                f"vector has {size}"
            )
        return inherited

    def inherit(self, local: torch.Tensor, owned: torch.Tensor | None) -> None:
        """Replaces what is held by the residuals of a checkpoint or of another layout.

        Args:
            local: Float32 [size].
            owned: Float32 [size], of the whole vector: this rank takes its part at the next use.
                None: nothing is pending there.
        """
        self.size, self.local, self.owned = local.numel(), None, ()
        self.inherited = (local, owned)

    def rescale(self, factor: float) -> None:
        """Multiplies what is pending, when the scale of the loss is multiplied by `factor`.

        Exact for powers of two, which loss scalers use.
        """
        for span in self.held():
            span.buffer.mul_(factor)

    def held(self) -> tuple[Span, ...]:
        """Returns all that is held, to be saved: the local residual, then the owned ones, or none.

        They are views of what is held here, for reading.
        """
        if self.inherited is not None:
            return tuple(Span(0, x.numel(), x) for x in self.inherited if x is not None)
        return () if self.local is None else (self.local, *self.owned)


def _cut(
    whole: torch.Tensor | None, start: int, stop: int, length: int, device: torch.device
) -> Span:
    """Returns a copy of part of a vector, zeros without one, in a buffer of a length."""
    span = Span(start, stop, torch.zeros(length, dtype=torch.float32, device=device))
    if whole is not None:
        span.values.copy_(whole[start:stop])
    return span
