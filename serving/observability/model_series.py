"""All that is counted of one version of a model, or of requests for what is not served."""

from collections import Counter, defaultdict
from collections.abc import Iterable

from serving.core.errors import NONFINITE_OUTPUT, Kind
from serving.core.model import ServedModel
from serving.core.outcome import Outcome
from serving.observability.histogram import BATCH_SIZES, DURATIONS_S, Histogram
from serving.observability.predictions import predictions_of

# In place of a name that a caller made up: whoever asks for a million names makes one series.
UNKNOWN = "unknown"

OK = "ok"

# Those that end a request before anything is computed, so that load goes elsewhere or away.
SHED = (Kind.OVERLOADED, Kind.UNAVAILABLE)

# Reasons that have a series of their own; the code has fewer, and this is what makes sure of it.
MAX_REASONS = 32
OTHER_REASON = "other"


class ModelSeries:
    """Counts of one version.

    Args:
        model: which it is; None: requests for nothing that is served.
    """

    def __init__(self, model: ServedModel | None) -> None:
        self.labels = (UNKNOWN, UNKNOWN) if model is None else (model.name, model.version)
        # By protocol and status, and by protocol.
        self.requests: Counter[tuple[str, str]] = Counter()
        self.durations: dict[str, Histogram] = defaultdict(lambda: Histogram(DURATIONS_S))
        self.shed: Counter[str] = Counter()
        self.queue, self.inference = Histogram(DURATIONS_S), Histogram(DURATIONS_S)
        self.batch_sizes = Histogram(BATCH_SIZES)
        self.bytes_in = self.bytes_out = self.retries = self.cached = self.nonfinite = 0
        self.predictions = None if model is None else predictions_of(model)

    def add(self, outcome: Outcome) -> None:
        """Counts a request, but for what it predicts."""
        call, error, spent = outcome.call, outcome.error, outcome.spent
        protocol = call.protocol.value
        self.requests[protocol, OK if error is None else error.kind.value] += 1
        self.durations[protocol].observe(outcome.ended - outcome.started)
        self.bytes_in += call.size_bytes
        self.bytes_out += outcome.bytes_out
        self.retries += outcome.retries
        refused = error is not None and error.reason == NONFINITE_OUTPUT
        self.nonfinite += outcome.nonfinite or refused
        if error is not None and error.kind in SHED:
            self._add_shed(error.reason)
        if spent.cached:
            self.cached += 1
        elif spent.batch_size:
            self.queue.observe(spent.queue_s)
        if spent.first:
            self.batch_sizes.observe(spent.batch_size)
            self.inference.observe(spent.infer_s)

    def add_predictions(self, outcomes: Iterable[Outcome]) -> None:
        """Counts what some requests predict."""
        if self.predictions is not None:
            answers = (one.answer for one in outcomes)
            self.predictions.add(answer.outputs for answer in answers if answer is not None)

    def _add_shed(self, reason: str) -> None:
        known = reason in self.shed or len(self.shed) < MAX_REASONS
        self.shed[reason if known else OTHER_REASON] += 1
