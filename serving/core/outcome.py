"""What became of a request: all that metrics and the log are told, once it is over."""

from typing import NamedTuple, Protocol

from serving.core.errors import ServingError
from serving.core.request import Answer, Call, Timings


class Outcome(NamedTuple):
    """One request, over. A tuple, which takes a quarter of the time that a frozen dataclass does.

    Attributes:
        call: what it was.
        known: the model is one that is served; otherwise its name is no label.
        version: the resolved one, or "".
        error: why it was not answered; None: it was.
        answer: None: there is none.
        timings: where the time went, as far as it came.
        started: of `time.monotonic`.
        ended: the same.
        batch_size: its own examples; 0: they were never read.
        retries: on other replicas.
        nonfinite: the answer holds infinite values or NaN.
    """

    call: Call
    known: bool
    version: str
    error: ServingError | None
    answer: Answer | None
    started: float
    ended: float
    batch_size: int = 0
    retries: int = 0
    timings: Timings = Timings()
    nonfinite: bool = False

    @property
    def duration_s(self) -> float:
        """From when it was heard of until it was over."""
        return self.ended - self.started

    @property
    def spent(self) -> Timings:
        """Where the time went, of an answer or on the way to an error."""
        return self.timings if self.answer is None else self.answer.timings

    @property
    def bytes_out(self) -> int:
        """Of the answer's tensors."""
        outputs = {} if self.answer is None else self.answer.outputs
        return sum(array.nbytes for array in outputs.values())


class Observer(Protocol):
    """Who wants to know. It is called in the event loop on the way of every request: be quick."""

    def done(self, outcome: Outcome) -> None:
        """A request is over."""

    def event(self, name: str, **facts: object) -> None:
        """Something else happened, such as a model that became ready."""


class NoObserver:
    """Nobody wants to know."""

    def done(self, outcome: Outcome) -> None:
        """Does nothing."""

    def event(self, name: str, **facts: object) -> None:
        """Does nothing."""
