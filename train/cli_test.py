"""The trainers' command line: what is refused is refused before a framework is imported."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from hpc.artifact.v1 import artifact_pb2

from models.weights import init_weights
from train import cli
from train.callbacks.callbacks import Callbacks, named
from train.capacity import available_bytes, least_need
from train.config.schema import ConfigError, TrainConfig
from train.events import Callback, Evaluated
from train.preflight import check_run
from train.publication import Publication
from train.testing.example import short_config
from train.testing.trainer_programs import MODULES, config_file

HEAVY = ["torch", "jax", "flax", "optax", "deepspeed", "sklearn", "scipy", "ray", "triton"]


class _Refused:
    """Runs the command line in this process, where training must not begin."""

    def __init__(
        self,
        directory: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ):
        self.directory = directory
        self._monkeypatch, self._capsys = monkeypatch, capsys

    def __call__(self, framework: cli.Framework, *arguments: object) -> str:
        """Returns what was said; the status must be 2, and nothing left behind."""
        before = sorted(self.directory.rglob("*"))
        self._monkeypatch.setenv("BUILD_WORKING_DIRECTORY", str(self.directory))
        self._monkeypatch.setattr(sys, "argv", ["train", *map(str, arguments)])
        launched = _must_not_launch if framework == "torch" else None
        with pytest.raises(SystemExit) as ended:
            cli.main(framework, _must_not_load, launched)
        stdout, stderr = self._capsys.readouterr()
        assert (ended.value.code, stdout) == (2, "")
        assert sorted(self.directory.rglob("*")) == before
        assert "Traceback" not in stderr
        return stderr


def _must_not_load() -> cli.Train:
    raise AssertionError("a trainer was imported")


def _must_not_launch() -> cli.TrainLaunched:
    raise AssertionError("a trainer was imported")


@pytest.fixture
def refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> _Refused:
    config_file(tmp_path, num_steps=10**6)
    return _Refused(tmp_path, monkeypatch, capsys)


@pytest.mark.parametrize("module", MODULES.values())
@pytest.mark.parametrize("option", ["--help", "--help-config", "--bogus"])
def test_options_are_read_before_a_framework_is_imported(module: str, option: str) -> None:
    script = (
        "import atexit, runpy, sys; sys.argv = sys.argv[1:];"
        f"atexit.register(lambda: print(sorted(set({HEAVY}) & set(sys.modules))));"
        f"runpy.run_module({module!r}, run_name='__main__', alter_sys=True)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script, "train", option], capture_output=True, text=True, check=False
    )
    assert ended.returncode == (2 if option == "--bogus" else 0)
    assert ended.stdout.splitlines()[-1] == "[]"
    assert ("\n  run.log_every_steps: 100\n" in ended.stdout) == (option == "--help-config")


def test_what_deepspeed_is_given_is_shown_and_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config_file(tmp_path, num_steps=3)
    shown = ["--config", "run.yaml", "--nproc", "2", "--print-deepspeed-config"]
    wanted = ["--set", "zero.stage=2", "--set", "data.gradient_accumulation_steps=4"]

    def printed(*arguments: str) -> str:
        monkeypatch.setenv("BUILD_WORKING_DIRECTORY", str(tmp_path))
        monkeypatch.setattr(sys, "argv", ["train", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main("torch", _must_not_load)
        assert not ended.value.code
        return capsys.readouterr().out

    first = printed(*shown, *wanted)
    assert json.loads(first)["train_micro_batch_size_per_gpu"] == 8
    (tmp_path / "ds.json").write_text(first)
    assert printed(*shown, "--deepspeed-config", "ds.json") == first
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ds.json", "run.yaml"]


def test_refuses_what_is_given_twice_or_to_the_wrong_program(refused: _Refused) -> None:
    (refused.directory / "ds.json").write_text('{"zero_optimization": {"stage": 1}}')
    arguments = ("--config", "run.yaml", "--deepspeed-config", "ds.json")
    assert refused("torch", *arguments, "--set", "zero.stage=2") == (
        "error: --set zero.stage=2: --deepspeed-config ds.json gives zero.stage too; remove one\n"
    )
    only = "only //train:torch trains through DeepSpeed; remove it\n"
    assert refused("flax", *arguments) == f"error: --deepspeed-config: {only}"
    printing = ("--config", "run.yaml", "--print-deepspeed-config")
    assert refused("flax", *printing) == f"error: --print-deepspeed-config: {only}"


@pytest.mark.parametrize("framework", MODULES)
def test_refuses_a_directory_in_use_before_training(
    framework: cli.Framework, refused: _Refused
) -> None:
    occupied = refused.directory / "occupied"
    occupied.mkdir()
    (occupied / "file").write_text("mine")
    stderr = refused(framework, "--config", "run.yaml", "--output", "occupied")
    assert stderr == (
        f"error: {occupied} is no directory of a run: it has file and no run.json; choose a new "
        "directory\n"
    )


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("", "error: --output: expected the path of a directory, got ''"),
        (".", "is no directory of a run: it has dangling and no run.json"),
        ("run.yaml", "run.yaml is no directory; choose a new one, or one of a run"),
        ("run.yaml/a", "run.yaml/a: Not a directory; choose a directory"),
        ("dangling", "dangling is no directory; choose a new one, or one of a run"),
        ("a/" * 3000 + "x", "File name too long; choose a directory"),
        ("x" * 300, "File name too long; choose a directory"),
        ("new/" + "x" * 300 + "/a", "File name too long; choose a directory"),
        ("/", "error: / is no directory of a run: it has "),
        ("/proc/a", "choose a directory that can be written"),
    ],
)
def test_refuses_outputs(output: str, message: str, refused: _Refused) -> None:
    (refused.directory / "dangling").symlink_to("nowhere")
    assert message in refused("flax", "--config", "run.yaml", "--output", output)


@pytest.mark.parametrize("framework", MODULES)
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--set", "run.seed"], "--set run.seed: expected key.path=value"),
        (["--nproc", "3"], "data.global_batch_size: 64 images cannot be shared equally by the 3 r"),
        (["--set", "gradient_compression.enabled=true"], "gradient_compression.enabled: one rank"),
        (["--set", "run.num_steps=1:30"], "run.num_steps: input should be a valid integer"),
        (["--set", "run.num_steps=" + "9" * 5000], "an integer of 5,000 digits"),
        (["--set", "run.num_steps=" + "[" * 3000], "nested deeper than 32 levels"),
        (
            ["--set", "run.num_steps=1000000000000"],
            "input should be less than or equal to 21474836",
        ),
        (
            ["--set", "data.global_batch_size=1000000000000"],
            "data.global_batch_size (1000000000000)",
        ),
        (
            ["--set", "model.config.hidden_sizes=[1000000]"],
            "model.config.hidden_sizes ([1000000]) or model.config.num_blocks (1)",
        ),
        (["--set", "model.config.num_blocks=1000000000"], "expected an integer from 0 to 1000"),
        (["--config", "/dev/zero"], "expected a file of at most"),
        (["--config", "."], "Is a directory"),
        (["--config", ""], "Is a directory"),
        (
            ["--nproc", "1000000"],
            "Invalid value for '--nproc': Input should be less than or equal to 1024",
        ),
        (["--nproc", "1e3"], "Invalid value for '--nproc': Input should be a valid integer"),
    ],
)
def test_bad_arguments_are_refused_before_training(
    framework: cli.Framework, arguments: Sequence[str], message: str, refused: _Refused
) -> None:
    assert message in refused(framework, "--config", "run.yaml", *arguments)


def test_bad_configuration_is_reported_without_a_traceback(refused: _Refused) -> None:
    (refused.directory / "run.yaml").write_text("optimiser: adam\n")
    stderr = refused("torch", "--config", "run.yaml", "--output", "a")
    path = refused.directory / "run.yaml"
    assert stderr.startswith(f"error: {path} is not a training configuration:\n")
    assert "  optimiser: unknown key, did you mean 'optimizer'? (accepted: artifact, " in stderr


@pytest.mark.parametrize("override", ["torch.num_threads=1", "zero.stage=1"])
def test_flax_refuses_what_only_torch_heeds(refused: _Refused, override: str) -> None:
    stderr = refused("flax", "--config", "run.yaml", "--set", override)
    assert stderr == f"error: --set {override}: only //train:torch heeds this section; remove it\n"


def test_torch_refuses_more_threads_than_cores(refused: _Refused) -> None:
    stderr = refused("torch", "--config", "run.yaml", "--set", "torch.num_threads=1000000000")
    cores = len(os.sched_getaffinity(0))
    assert stderr.startswith(f"error: torch.num_threads: expected at most {cores}, the cores of")


def test_torch_refuses_half_a_launch_and_what_is_a_launchers(
    refused: _Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    run = ("torch", "--config", "run.yaml", "--output", "a")
    assert refused(*run).startswith("error: WORLD_SIZE set, and RANK, LOCAL_RANK, MASTER_ADDR, ")
    for name in ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.setenv(name, "0")
    assert refused(*run, "--nproc", "2") == (
        "error: --nproc 2: a launcher has started the 2 ranks; leave it out\n"
    )


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_refuses_nodes_where_zero_partitions(stage: int, tmp_path: Path) -> None:
    section = {"enabled": True, "ranks_per_node": 2}
    config = short_config(num_steps=1, gradient_compression=section, zero={"stage": stage})
    with pytest.raises(ConfigError) as caught:
        check_run(config, tmp_path / "out", framework="torch", world_size=4)
    assert str(caught.value) == (
        "gradient_compression.ranks_per_node: 2 needs zero.stage 0, got "
        f"{stage}: what ZeRO partitions has no exchange on two levels; change one of the two"
    )


def test_says_what_memory_a_run_takes_and_what_there_is(refused: _Refused) -> None:
    stderr = refused(
        "flax", "--config", "run.yaml", "--set", "data.global_batch_size=1000000000000"
    )
    # 10^12 images of 8 x 8 float32, and as many for the next step.
    assert "batches 465.7 TiB" in stderr
    [(number, unit)] = re.findall(r"and ([\d.]+) (\w+) are available", stderr)
    said = float(number) * 1024 ** ("bytes", "KiB", "MiB", "GiB", "TiB").index(unit)
    # What there is changes by the second; a wrong unit is off by 1,024.
    assert 0.5 < said / available_bytes() < 2


def test_counts_the_memory_of_weights_as_they_are() -> None:
    config = short_config(num_steps=1)
    need = least_need(config, world_size=2, zero_stage=0)
    weights = init_weights(config.model, seed=0).values()
    assert need.weights == need.gradients == 2 * sum(array.nbytes for array in weights)
    assert need.optimizer == 2 * need.weights  # of AdamW
    assert need.average == 0


@pytest.mark.parametrize("stage", [0, 2, 3])
def test_counts_the_memory_of_the_average_as_that_of_weights(stage: int) -> None:
    config = short_config(num_steps=1, ema={"decay": 0.9})
    need = least_need(config, world_size=2, zero_stage=stage)
    assert need.average == need.weights


def test_default_directories_of_one_second_differ() -> None:
    assert len({cli.unique_name() for _ in range(100)}) == 100


@pytest.mark.parametrize("kind", ["full", "unread"])
def test_output_that_is_lost_does_not_lose_the_training(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    trained = []

    def train(
        config: TrainConfig, output_dir: Path, callbacks: Sequence[Callback], **options: object
    ) -> Publication:
        for _ in range(3):
            Callbacks(named(callbacks)).tell(Evaluated(1, {"accuracy": 0.5}, is_final=True))
        trained.append(output_dir)
        return Publication(output_dir, artifact_pb2.Artifact(name="a", version="1.0.0"))

    config, out = config_file(tmp_path, num_steps=1), tmp_path / "\u00fc"
    reader, writer = os.pipe()
    os.close(reader)
    with open("/dev/full" if kind == "full" else writer, "w", encoding="ascii") as stdout:
        monkeypatch.setattr(sys, "stdout", stdout)
        monkeypatch.setattr(sys, "argv", ["train", "--config", f"{config}", "--output", f"{out}"])
        with pytest.raises(SystemExit) as ended:
            cli.main("flax", lambda: train)
    if kind == "full":
        os.close(writer)
    assert (ended.value.code, trained) == (1, [out])
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: published to {out}, but output was lost: ")
