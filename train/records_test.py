"""What a run writes down is read by the programs that are to read it: TensorBoard, Prometheus."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
from prometheus_client.parser import text_string_to_metric_families

from train.callbacks.json_lines import read_json_lines
from train.checkpoint.run_directory import METRICS, TENSORBOARD
from train.events import Event, Noted, Stepped
from train.launch.process_group import join_alone
from train.testing.example import short_config
from train.train_torch import train

_NUM_STEPS = 4


class _Scraping:
    """Reads the run's page when it has made its last step."""

    def __init__(self) -> None:
        self._url = ""
        self.samples: dict[str, float] = {}

    def __call__(self, event: Event) -> None:
        if isinstance(event, Noted):
            self._url = event.message.split()[-1]
        if isinstance(event, Stepped) and event.step == event.num_steps:
            with urlopen(self._url) as reply:
                text = reply.read().decode()
            self.samples = {
                sample.name: sample.value
                for metric in text_string_to_metric_families(text)
                for sample in metric.samples
            }


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, _Scraping]:
    join_alone()
    directory, scraping = tmp_path_factory.mktemp("runs") / "run", _Scraping()
    metrics = {"metrics": {"prometheus_port": 0}}
    config = short_config(num_steps=_NUM_STEPS, evaluation={"every_steps": 2}, callbacks=metrics)
    train(config, directory, [scraping])
    return directory, scraping


@contextmanager
def _tensorboard(logdir: Path) -> Iterator[str]:
    """Starts the program; yields its address."""
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(logdir)]
    command += ["--port", "0", "--host", "127.0.0.1", "--load_fast=false"]
    log = logdir.parent / "tensorboard.log"
    with log.open("w") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
    try:
        while "http://" not in log.read_text():
            assert process.poll() is None, log.read_text()
            time.sleep(0.1)
        yield "http" + log.read_text().partition("http")[2].split()[0]
    finally:
        process.terminate()
        process.wait()


def _asked(url: str) -> Any:
    with urlopen(url) as reply:
        return json.load(reply)


def test_tensorboard_serves_the_curves(run: tuple[Path, _Scraping]) -> None:
    directory, _ = run
    with _tensorboard(directory.parent) as address:
        scalars = f"{address.rstrip('/')}/data/plugin/scalars"
        while not (tags := _asked(f"{scalars}/tags")):  # it has not read them yet
            time.sleep(0.1)
        [(name, found)] = tags.items()
        assert name == f"{directory.name}/{TENSORBOARD}"
        assert {"train/loss", "train/learning_rate", "held_out/accuracy"} <= set(found)
        curve = _asked(f"{scalars}/scalars?run={name}&tag=train/loss")
    losses = [line["loss"] for line in _told(directory, "Stepped")]
    assert [step for _, step, _ in curve] == list(range(1, _NUM_STEPS + 1))
    assert [value for *_, value in curve] == pytest.approx(losses, rel=1e-6)  # float32


def test_prometheus_scrapes_the_run(run: tuple[Path, _Scraping]) -> None:
    directory, scraping = run
    last = _told(directory, "Stepped")[-1]
    assert scraping.samples["train_step"] == _NUM_STEPS
    assert scraping.samples["train_steps_total"] == _NUM_STEPS
    assert scraping.samples["train_batch_loss_nats"] == last["loss"]


def test_all_that_is_told_is_written_down(run: tuple[Path, _Scraping]) -> None:
    directory, _ = run
    evaluated = _told(directory, "Evaluated")
    assert [(line["step"], line["is_final"]) for line in evaluated] == [
        (2, False),
        (4, False),
        (4, True),
    ]


def _told(directory: Path, event: str) -> list[dict[str, Any]]:
    return [line for line in read_json_lines(directory / METRICS) if line["event"] == event]
