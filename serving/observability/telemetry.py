"""Who is told what happens: metrics, and the log."""

import structlog

from serving.core.outcome import Outcome
from serving.observability.metrics import Metrics
from serving.observability.request_log import RequestLog

# Events for which somebody may have to get up; all others are info.
_LEVELS = {
    "alias_not_followed": "warning",
    "breaker_opened": "warning",
    "cache_lost": "warning",
    "model_unavailable": "warning",
    "replica_lost": "warning",
}


class Telemetry:
    """An `Observer` that counts and writes down.

    Args:
        metrics: counts.
        request_log: writes down.
    """

    def __init__(self, metrics: Metrics, request_log: RequestLog) -> None:
        self._metrics, self._request_log = metrics, request_log
        self._log = structlog.get_logger()

    def done(self, outcome: Outcome) -> None:
        """See `Observer`."""
        self._metrics.done(outcome)
        self._request_log.done(outcome)

    def event(self, name: str, **facts: object) -> None:
        """See `Observer`."""
        self._metrics.event(name)
        getattr(self._log, _LEVELS.get(name, "info"))(name, **facts)
