"""Tests of what pip_install refuses and how it names things.

The installation itself is tested by every other test.
"""

from collections.abc import Callable

import pytest

from infra.bazel import pip_install

_LOCK = """\
# Written by a program.
deepspeed==0.19.8 \\
    --hash=sha256:aa
scikit-learn==1.9.1 \\
    --hash=sha256:bb \\
    --hash=sha256:cc
torch==2.13.0 \\
    --hash=sha256:dd
"""


def test_lock_is_split_without_losing_a_hash() -> None:
    wheels, sources = pip_install.split_lock(_LOCK, ["DeepSpeed"])
    assert wheels.splitlines() == _LOCK.splitlines()[3:]
    assert sources.splitlines() == _LOCK.splitlines()[1:3]


class Index:
    """Stands for a pip that finds what it was told."""

    def __init__(self, *found: str) -> None:
        self.finds: Callable[[str], bool] = found.__contains__


def torch_line(index: Index, torch: str) -> str:
    chosen = pip_install.choose_torch(_LOCK, index, torch)
    assert chosen.replace("torch===", "torch==").replace("+cpu", "") == _LOCK
    return next(line for line in chosen.splitlines() if line.startswith("torch"))


def test_the_build_of_torch_is_chosen() -> None:
    cpu, cuda = "torch==2.13.0+cpu", "torch===2.13.0"
    assert torch_line(Index(cpu, cuda), "any") == f"{cpu} \\"
    assert torch_line(Index(cuda), "any") == "torch==2.13.0 \\"
    assert torch_line(Index(cpu, cuda), "cuda") == f"{cuda} \\"
    with pytest.raises(pip_install.InstallError, match="pip finds no torch===2.13.0, PyTorch's"):
        torch_line(Index(cpu), "cuda")


def test_of_shared_folders_it_is_said_whose_each_file_is() -> None:
    records = {
        "blas": [("nvidia/lib/libblas.so.13", ""), ("blas-1.dist-info/METADATA", "")],
        "fft": [("nvidia/lib/libfft.so.12", ""), ("fft.py", "")],
        "alone": [("alone/__init__.py", "")],
    }
    assert pip_install.shared_files(records) == {
        "nvidia/lib/libblas.so.13": ["blas"],
        "nvidia/lib/libfft.so.12": ["fft"],
    }


def test_shared_top_level_names_are_listed_one_level_down() -> None:
    records = {
        "protobuf": [("google/protobuf/message.py", ""), ("google/_upb/_message.abi3.so", "")],
        "google_auth": [("google/auth/__init__.py", ""), ("google_auth-2.dist-info/METADATA", "")],
        "six": [("six.py", "")],
        "safetensors": [("safetensors/__init__.py", ""), ("safetensors/torch.py", "")],
    }
    assert pip_install.importable(records) == {
        "protobuf": ["google._upb", "google.protobuf"],
        "google_auth": ["google.auth"],
        "six": ["six"],
        "safetensors": ["safetensors"],
    }


def test_refuses_a_wheel_that_shadows_a_folder_of_the_workspace() -> None:
    with pytest.raises(
        pip_install.InstallError, match="kernels-hub installs a top-level module named 'kernels'"
    ):
        pip_install.check_reserved({"kernels-hub": ["kernels"]}, ["kernels", "models"])


def test_refuses_two_wheels_that_write_one_path() -> None:
    same = {"one": [("shared/a.py", "sha256=1")], "two": [("shared/a.py", "sha256=1")]}
    pip_install.check_clashes(same)
    with pytest.raises(pip_install.InstallError, match="one and two both install shared/a.py"):
        pip_install.check_clashes({**same, "two": [("shared/a.py", "sha256=2")]})


def test_reserved_names_are_the_folders_of_the_house() -> None:
    """Of the rooms only `proto` may be missing: nothing of ours is imported by that name."""
    with open("infra/bazel/pip_repository.bzl") as file:
        reserved = file.read()
    namespace: dict[str, object] = {}
    with open("infra/bazel/architecture.bzl") as file:
        exec(
            file.read().partition("# //:quickstart")[0], namespace
        )  # Starlark constants are Python
    rooms = namespace["MAY_IMPORT"]
    assert isinstance(rooms, dict)
    assert [room for room in rooms if f'"{room}"' not in reserved] == ["proto"]
