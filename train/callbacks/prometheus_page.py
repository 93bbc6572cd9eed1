"""A page that Prometheus scrapes: how the run is, on a port of its own.

Names are by https://prometheus.io/docs/practices/naming/: base units, and `_total` of what only
grows. Such counts are of this process; those of a run that goes on begin anew, as Prometheus
expects.
"""

from collections.abc import Mapping
from typing import TypeVar

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Info,
    disable_created_metrics,
    start_http_server,
)

from train.callbacks.callbacks import Closing
from train.config.schema import ConfigError
from train.events import (
    Action,
    Began,
    Evaluated,
    Event,
    Noted,
    Resources,
    RolledBack,
    Saved,
    SaveFailed,
    Stepped,
    Tell,
    Warned,
)

_PREFIX = "train"

# When a count began is of no use here, and would be another line of each.
disable_created_metrics()

Kind = TypeVar("Kind", Gauge, Counter)


class PrometheusPage(Closing):
    """Serves the page until it is closed, and tells where.

    Args:
        host: Whose address is listened on, such as 127.0.0.1.
        port: Likewise; 0: any that is free.
        about: The run, in labels of `train_info`.
        batch_size: Examples that a step learns from.

    Raises:
        ConfigError: The port cannot be had.
    """

    def __init__(self, host: str, port: int, about: Mapping[str, str], batch_size: int):
        self._registry = CollectorRegistry()
        try:
            self._server, self._thread = start_http_server(port, host, self._registry)
        except OSError as error:
            raise ConfigError(
                f"callbacks.metrics.prometheus_port: {port} of {host} cannot be listened on: "
                f"{error.strerror}; give another, 0 for any that is free, or null for none"
            ) from error
        self.url = f"http://{host}:{self._server.server_port}/metrics"
        self._metrics: dict[str, Gauge | Counter] = {}
        self._batch_size, self._reported = batch_size, 0
        Info(_PREFIX, "The run.", registry=self._registry).info(dict(about))

    def __call__(self, event: Event) -> Action | None:
        match event:
            case Began():
                self._reported = event.step
                self._set("step", event.step, "Updates that the weights have had.")
                self._set("planned_steps", event.num_steps, "Updates in the whole run.")
                return Tell(Noted(f"Prometheus finds metrics at {self.url}"))
            case Stepped():
                self._take_report(event)
            case Evaluated():
                self._count("evaluations", 1, "Evaluations, on the way and at the end.")
                data = event.measured_on.replace("-", "_")
                for name, value in event.metrics.items():
                    self._set(f"{data}_{name}", value, f"Of the latest evaluation, {name}.")
            case Resources():
                self._take_resources(event)
            case Saved():
                self._count("checkpoints", 1, "Checkpoints that were written.")
                self._set("checkpoint_step", event.step, "Updates of the newest checkpoint.")
            case SaveFailed():
                self._count("checkpoint_failures", 1, "Checkpoints that could not be written.")
            case RolledBack():
                self._reported = event.to_step
                self._set("step", event.to_step, "Updates that the weights have had.")
                self._count("rollbacks", 1, "Times that an earlier state was gone back to.")
            case Warned():
                self._count("warnings", 1, "Things that were not as they should be.")
        return None

    def close(self) -> None:
        """See `Closing`."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _take_report(self, report: Stepped) -> None:
        num_steps, self._reported = report.step - self._reported, report.step
        self._set("step", report.step, "Updates that the weights have had.")
        self._count("steps", num_steps, "Updates made by this process.")
        self._count("examples", num_steps * self._batch_size, "Examples learnt from.")
        self._set("examples_per_second", report.examples_per_s, "Of the latest report.")
        self._set("learning_rate", report.learning_rate, "Of the latest update.")
        self._set("batch_loss_nats", report.loss, "Mean training loss of the latest report.")
        for name, value in report.metrics.items():
            self._set(f"batch_{name}", value, f"Mean {name} of the latest report.")
        for mark, value in report.fractions.items():
            self._set("marked_weights_ratio", value, "Of the weights, by mark.", mark=mark)
        for phase, seconds in report.phases.items():
            self._count("phase_seconds", seconds * num_steps, "Spent on the host.", phase=phase)

    def _take_resources(self, used: Resources) -> None:
        self._set("cpu_cores", used.cpu_cores, "Processors at work.")
        self._set("memory_resident_bytes", used.memory_bytes, "Of all processes, at most.")
        read, written = used.disk_read_bytes_per_s, used.disk_written_bytes_per_s
        self._set("disk_read_bytes_per_second", read, "From devices.")
        self._set("disk_written_bytes_per_second", written, "To devices.")
        received, sent = used.network_received_bytes_per_s, used.network_sent_bytes_per_s
        self._set("network_received_bytes_per_second", received, "By this machine.")
        self._set("network_sent_bytes_per_second", sent, "By this machine.")
        for gpu, usage in used.gpus.items():
            self._set("gpu_utilization_ratio", usage.utilization, "By GPU.", gpu=gpu)
            self._set("gpu_memory_used_bytes", usage.memory_bytes, "By GPU.", gpu=gpu)
            self._set("gpu_power_watts", usage.power_w, "By GPU.", gpu=gpu)

    def _set(self, name: str, value: float, meaning: str, **labels: str) -> None:
        self._metric(Gauge, name, meaning, labels).set(value)

    def _count(self, name: str, more: float, meaning: str, **labels: str) -> None:
        self._metric(Counter, name, meaning, labels).inc(more)

    def _metric(self, kind: type[Kind], name: str, meaning: str, labels: Mapping[str, str]) -> Kind:
        """Returns what has a value on the page, which is made when it is first needed."""
        if name not in self._metrics:
            self._metrics[name] = kind(
                f"{_PREFIX}_{name}", meaning, labels, registry=self._registry
            )
        metric = self._metrics[name]
        assert isinstance(metric, kind)  # a name is of one kind
        return metric.labels(**labels) if labels else metric
