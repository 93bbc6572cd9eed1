"""Options are checked, and help is printed, before anything that takes long is imported."""

import os
import subprocess
import sys
from functools import partial
from importlib import import_module
from pathlib import Path

import pytest

from benchmarks.main import SUITES, main

HEAVY = {"deepspeed", "flax", "jax", "matplotlib", "ray", "scipy", "sklearn", "torch", "triton"}

BENCHMARKS = SUITES
PATIENT = ("attention", "compression", "networks", "optim", "serving", "training")
OF_KERNELS = (
    "kernels.linear_attention.linear_attention_bench",
    "kernels.quantize.quantize_bench",
)


def _module(program: str) -> list[str]:
    return ["benchmarks.main", program] if program in BENCHMARKS else [program]


COUNT = "must be a whole number from 1 to 1000000"

# What is asked of which programs, and a part of the answer.
BAD = {
    ("--no-such-option",): ("unrecognized arguments: --no-such-option", BENCHMARKS + OF_KERNELS),
    ("--out", ""): ("must be the path of a directory", BENCHMARKS),
    ("--out", "file"): ("Not a directory", BENCHMARKS),
    ("--out", "/dev/null/here"): (
        "--out: cannot make the directory /dev/null/here",
        BENCHMARKS,
    ),
    ("--tasks", "images"): ("--tasks: invalid choice: 'images'", ("bakeoff", "convergence")),
    ("--seeds", "-3"): (f"--seeds: {COUNT}, got '-3'", ("bakeoff", "convergence")),
    ("--seeds", "0"): (f"--seeds: {COUNT}, got '0'", ("bakeoff", "convergence")),
    ("--trials", "0"): (f"--trials: {COUNT}, got '0'", ("bakeoff",)),
    ("--steps", "9" * 5000): (f"--steps: {COUNT}, got '999", ("bakeoff", "convergence")),
    ("--optimizers", "adam"): ("--optimizers: invalid choice: 'adam'", ("bakeoff",)),
    ("--algorithms", "adam"): ("--algorithms: invalid choice: 'adam'", ("optim",)),
    ("--frameworks", "mxnet"): (
        "--frameworks: invalid choice: 'mxnet'",
        ("memory", "networks", "optim", "training"),
    ),
    ("--networks", "rnn"): ("--networks: invalid choice: 'rnn'", ("networks", "training")),
    ("--depths", "1"): ("from 2 to 1000000, got '1'", ("memory",)),
    ("--quick", "--depths", "8"): ("not allowed with argument --quick", ("memory",)),
    ("--variants", "int2"): ("--variants: invalid choice: 'int2'", ("convergence",)),
    ("--servers", "triton"): ("--servers: invalid choice: 'triton'", ("serving",)),
    ("--callers", "0"): (f"--callers: {COUNT}, got '0'", ("serving",)),
    ("--rates", "-5"): ("--rates: must be a positive number, got '-5'", ("serving",)),
    ("--tensors-mib", "1.5"): (f"--tensors-mib: {COUNT}, got '1.5'", ("serving",)),
    ("--device", "tpu"): ("--device: invalid choice: 'tpu'", ("attention",)),
    ("--backends", "opencl"): ("--backends: invalid choice: 'opencl'", ("attention",)),
    ("--lengths", "1e3"): (f"--lengths: {COUNT}, got '1e3'", ("attention",)),
    ("--lengths", "0"): (f"--lengths: {COUNT}, got '0'", ("attention",)),
    ("--head-dims", "15"): ("--head-dims: must be even, for RoPE, got '15'", ("attention",)),
    ("--budget-s", "inf"): ("--budget-s: must be a positive number, got 'inf'", ("attention",)),
    ("--quick", "--full"): ("not allowed with argument --quick", ("attention",)),
    ("--rates", "0"): ("--rates: must be a positive number, got '0'", ("compression",)),
    ("--rates", "1000"): ("--rates: must be from 0.1 to 100, got '1000'", ("compression",)),
    ("--rates", "1,10"): ("--rates: must be a positive number, got '1,10'", ("compression",)),
    ("--world-sizes", "1"): ("--world-sizes: must be from 2 to 8, got '1'", ("compression",)),
    ("--repeats", "-1"): (f"--repeats: {COUNT}, got '-1'", ("compression",)),
    ("--grace-s", "nan"): ("--grace-s: must be a positive number, got 'nan'", PATIENT),
    ("--grace-s", "inf"): ("--grace-s: must be a positive number, got 'inf'", PATIENT),
    ("--grace-s", "0"): ("--grace-s: must be a positive number, got '0'", PATIENT),
    ("--repeat", "-1"): ("from 2 to 1000000, got '-1'", OF_KERNELS),
    ("--repeat", "1"): ("from 2 to 1000000, got '1'", OF_KERNELS),
    ("--device", "cuda:7"): ("invalid choice: 'cuda:7'", OF_KERNELS),
    ("--threads", "0"): ("from 1 to 1000000, got '0'", ("kernels.quantize.quantize_bench",)),
    ("--threads", "1000000"): ("this process may use", ("kernels.quantize.quantize_bench",)),
    ("--mib", "1000000"): ("--mib 1000000: takes", ("kernels.quantize.quantize_bench",)),
}


@pytest.mark.parametrize(
    ("program", "options", "message"),
    [(name, options, message) for options, (message, programs) in BAD.items() for name in programs],
)
def test_a_bad_option_comes_before_heavy_imports(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    program: str,
    options: tuple[str, ...],
    message: str,
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("BUILD_WORKING_DIRECTORY", str(tmp_path))
    monkeypatch.setattr(sys, "argv", [program, *options])
    benchmark = partial(main, [program, *options])
    start = benchmark if program in BENCHMARKS else import_module(program).main
    with pytest.raises(SystemExit) as exited:
        start()
    stdout, stderr = capsys.readouterr()
    assert (exited.value.code, stdout) == (2, "")
    assert stderr.startswith("error: ") and stderr.count("\n") == 1
    assert message in stderr and len(stderr) < 1000
    # Nor by a case before this one.
    assert not HEAVY & set(sys.modules)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("program", OF_KERNELS)
def test_a_missing_gpu_is_one_line(program: str) -> None:
    command = [sys.executable, "-m", program, "--device", "cuda"]
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": ""}
    ended = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr == (
        "error: --device cuda: PyTorch finds no GPU here; --help lists the options\n"
    )


@pytest.mark.parametrize("program", BENCHMARKS + OF_KERNELS)
def test_a_signal_as_it_starts_is_one_line(
    program: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # In the place of the first library that is imported; every program reads options.
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "options.py").write_text("import signal; signal.raise_signal(15)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    command = [sys.executable, "-m", *_module(program)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (143, "")
    assert ended.stderr == "interrupted: nothing was written\n"


@pytest.mark.parametrize("program", BENCHMARKS + OF_KERNELS)
def test_help_comes_before_heavy_imports(program: str) -> None:
    command = [sys.executable, "-X", "importtime", "-m", *_module(program), "--help"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0
    assert ended.stdout.startswith("usage: ")
    lines = ended.stderr.splitlines()
    imported = {line.rsplit("|", 1)[1].strip() for line in lines}
    assert all(line.startswith("import time:") for line in lines)
    assert "argparse" in imported and not imported & HEAVY


@pytest.mark.parametrize("arguments", [[], ["speed"], ["--help"]])
def test_the_first_argument_is_a_benchmark(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    message = f"must be one of {', '.join(SUITES)}, got {(arguments or [''])[0]!r}"
    assert capsys.readouterr() == ("", f"error: {message}\n")


def test_every_benchmark_has_a_suite_of_its_name() -> None:
    folders = Path("benchmarks").glob("*/suite.py")
    assert {path.parent.name for path in folders} - {"harness"} == set(SUITES)
    assert all(import_module(f"benchmarks.{name}.suite").SUITE.name == name for name in SUITES)
