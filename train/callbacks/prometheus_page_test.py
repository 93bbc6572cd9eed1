"""Prometheus' own parser reads the page, and its conventions hold for the names."""

import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import pytest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from train.callbacks.prometheus_page import PrometheusPage
from train.config.schema import ConfigError
from train.events import (
    Began,
    Evaluated,
    GpuUsage,
    Noted,
    Resources,
    RolledBack,
    Saved,
    SaveFailed,
    Stepped,
    Tell,
)

_ABOUT = {"framework": "flax", "artifact": "digits"}

# https://prometheus.io/docs/practices/naming/#base-units
_NOT_BASE_UNITS = ("milliseconds", "minutes", "hours", "kilobytes", "megabytes", "percent", "_ms")


@pytest.fixture
def page() -> Iterator[PrometheusPage]:
    page = PrometheusPage("127.0.0.1", 0, _ABOUT, batch_size=64)
    yield page
    page.close()


def _scraped(page: PrometheusPage) -> list[Metric]:
    with urlopen(page.url) as reply:
        return list(text_string_to_metric_families(reply.read().decode()))


def _report(step: int) -> Stepped:
    return Stepped(
        step=step,
        num_steps=100,
        loss=1.5,
        metrics={"accuracy": 0.5},
        learning_rate=1e-3,
        examples_per_s=80.0,
        unit="images",
        fractions={"clipped": 0.25},
        phases={"data": 0.125, "step": 0.5},
    )


def test_a_scrape_says_how_the_run_is(page: PrometheusPage) -> None:
    assert page(Began(30, 100)) == Tell(Noted(f"Prometheus finds metrics at {page.url}"))
    for event in (
        _report(40),
        Saved(40, Path("step-40")),
        _report(50),
        RolledBack(50, 40, 1, "by chance"),
        _report(50),
        Resources(50, 1.5, 2**20, 1.0, 2.0, 3.0, 4.0, {"0": GpuUsage(0.5, 2**30, 250.0)}),
        SaveFailed(50, "No space left on device"),
        Evaluated(50, {"accuracy": 0.75, "loss_nats": 1.0}, is_final=False),
    ):
        assert page(event) is None
    metrics = _scraped(page)
    values = {
        (sample.name, *sample.labels.values()): sample.value
        for metric in metrics
        for sample in metric.samples
    }
    assert values == {
        ("train_info", "digits", "flax"): 1,
        ("train_step",): 50,
        ("train_planned_steps",): 100,
        ("train_steps_total",): 30,
        ("train_examples_total",): 30 * 64,
        ("train_examples_per_second",): 80,
        ("train_learning_rate",): 1e-3,
        ("train_batch_loss_nats",): 1.5,
        ("train_batch_accuracy",): 0.5,
        ("train_marked_weights_ratio", "clipped"): 0.25,
        ("train_phase_seconds_total", "data"): 30 * 0.125,
        ("train_phase_seconds_total", "step"): 30 * 0.5,
        ("train_checkpoints_total",): 1,
        ("train_checkpoint_step",): 40,
        ("train_checkpoint_failures_total",): 1,
        ("train_rollbacks_total",): 1,
        ("train_cpu_cores",): 1.5,
        ("train_memory_resident_bytes",): 2**20,
        ("train_disk_read_bytes_per_second",): 1,
        ("train_disk_written_bytes_per_second",): 2,
        ("train_network_received_bytes_per_second",): 3,
        ("train_network_sent_bytes_per_second",): 4,
        ("train_gpu_utilization_ratio", "0"): 0.5,
        ("train_gpu_memory_used_bytes", "0"): 2**30,
        ("train_gpu_power_watts", "0"): 250,
        ("train_evaluations_total",): 1,
        ("train_held_out_accuracy",): 0.75,
        ("train_held_out_loss_nats",): 1.0,
    }
    for metric in metrics:
        assert metric.documentation
        assert not any(unit in metric.name for unit in _NOT_BASE_UNITS)
        is_count = any(sample.name.endswith("_total") for sample in metric.samples)
        assert is_count == (metric.type == "counter")


def test_a_port_that_is_taken_is_refused() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        message = (
            rf"^callbacks\.metrics\.prometheus_port: {port} of 127\.0\.0\.1 cannot be listened on: "
            "Address already in use; give another, 0 for any that is free, or null for none$"
        )
        with pytest.raises(ConfigError, match=message):
            PrometheusPage("127.0.0.1", port, _ABOUT, batch_size=64)


def test_a_port_is_free_again_once_the_run_has_ended(page: PrometheusPage) -> None:
    other = PrometheusPage("127.0.0.1", 0, _ABOUT, batch_size=64)
    port = int(other.url.rpartition(":")[2].partition("/")[0])
    other.close()
    PrometheusPage("127.0.0.1", port, _ABOUT, batch_size=64).close()
