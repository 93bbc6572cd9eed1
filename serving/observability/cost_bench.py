"""Measures what observing costs a request: nobody, metrics, the log, and both, asked in turns.

    ./bazelw run -c opt //serving/observability:cost_bench

Time is the processor's, of the thread in which requests are answered; what the log's own thread
takes for a line stands beside it. Each answer is one row of ten logits.
"""

import os
import statistics
import time
from collections.abc import Callable
from functools import partial

from base.options import Parser, positive_int
from serving.core.outcome import NoObserver, Observer, Outcome
from serving.observability.log_config import LogConfig
from serving.observability.log_lines import render_json
from serving.observability.metrics import Metrics
from serving.observability.program_log import program_log
from serving.observability.readings import ModelReading
from serving.observability.request_log import RequestLog
from serving.observability.telemetry import Telemetry
from serving.observability.testing.outcomes import logits, model, outcome

CLASSES = tuple("0123456789")


def requests(observer: Observer, number: int) -> float:
    """Tells of so many requests, and returns the microseconds that each took."""
    one = outcome(model(classes=CLASSES), outputs=logits([float(name) for name in CLASSES]))
    begin = time.thread_time()
    for _ in range(number):
        # Made anew each time, as the engine does.
        observer.done(Outcome(one.call, True, one.version, None, one.answer, 1.0, 1.001, 1))
    return (time.thread_time() - begin) / number * 1e6


def line(number: int) -> float:
    """Returns the microseconds that a line takes the log's thread."""
    kept: list[object] = []

    class Keeper:
        """Keeps what would be written."""

        def put(self, entry: object) -> None:
            """See `LineWriter`."""
            kept.append(entry)

    RequestLog(Keeper(), LogConfig()).done(outcome(model()))
    begin = time.thread_time()
    for _ in range(number):
        render_json(kept[0])
    return (time.thread_time() - begin) / number * 1e6


def main() -> None:
    """Prints the medians."""
    parser = Parser(__doc__)
    parser.add_argument("--requests", type=positive_int, default=20_000, help="a row and a turn")
    parser.add_argument("--turns", type=positive_int, default=7, help="medians are of them")
    options = parser.parse_args()
    config, rare = LogConfig(max_waiting_lines=1_000_000), LogConfig(success_rate=0.01)
    metrics = Metrics({})
    metrics.add_model(
        model(classes=CLASSES), lambda: ModelReading(True, 1, 1, 0, 0, "closed", 0, None)
    )
    null = os.open(os.devnull, os.O_WRONLY)
    rows: dict[str, Callable[[], float]] = {}
    with program_log(config, null) as writer:
        observers: dict[str, Observer] = {
            "nobody": NoObserver(),
            "metrics": Telemetry(metrics, RequestLog(writer, LogConfig(level="error"))),
            "metrics, log of 1 in 100": Telemetry(metrics, RequestLog(writer, rare)),
            "metrics, log of all": Telemetry(metrics, RequestLog(writer, config)),
        }
        for name, observer in observers.items():
            rows[name] = partial(requests, observer, options.requests)
        rows["a line, in the log's thread"] = partial(line, options.requests)
        taken = [{name: row() for name, row in rows.items()} for _ in range(options.turns)]
    for name in rows:
        print(f"{statistics.median(turn[name] for turn in taken):8.2f} us  {name}")


if __name__ == "__main__":
    main()
