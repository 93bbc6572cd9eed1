"""The Dockerfile says of each image what Bazel's image says: its configuration, word for word."""

import json
import shlex
from pathlib import Path
from typing import Any

import pytest

FILE = Path("infra/images/Dockerfile")

_SECOND_NS = 10**9


def instructions(text: str) -> list[tuple[str, str]]:
    """Instructions and their arguments, with continued lines joined."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ").splitlines()
    return [(line.split()[0], line.split(maxsplit=1)[1].strip()) for line in joined if line.strip()]


def stage(text: str, name: str) -> list[tuple[str, str]]:
    """Instructions of a stage and of those that it is made from, but for FROM."""
    found: dict[str, list[tuple[str, str]]] = {}
    current: list[tuple[str, str]] = []
    for word, arguments in instructions(text):
        if word != "FROM":
            current.append((word, arguments))
            continue
        base, _, called = arguments.partition(" AS ")
        current = list(found.get(base, []))
        found[called or "last"] = current
    return found[name]


def pairs(arguments: str) -> dict[str, str]:
    return dict(word.split("=", 1) for word in shlex.split(arguments))


def health(arguments: str) -> dict[str, Any]:
    options, _, command = arguments.partition("CMD")
    given = pairs(options)
    return {
        "Test": ["CMD", *json.loads(command)],
        "Interval": int(given["--interval"].removesuffix("s")) * _SECOND_NS,
        "Timeout": int(given["--timeout"].removesuffix("s")) * _SECOND_NS,
        "StartPeriod": int(given["--start-period"].removesuffix("s")) * _SECOND_NS,
        "Retries": int(given["--retries"]),
    }


def configuration(text: str, name: str) -> dict[str, Any]:
    """What an engine makes of a stage, in the words of an image's configuration."""
    found: dict[str, Any] = {"Env": {}, "Labels": {}, "ExposedPorts": {}}
    for word, arguments in stage(text, name):
        if word == "ENV":
            found["Env"] |= pairs(arguments)
        elif word == "LABEL":
            found["Labels"] |= pairs(arguments)
        elif word == "EXPOSE":
            found["ExposedPorts"] |= {f"{port}/tcp": {} for port in arguments.split()}
        elif word == "ENTRYPOINT":
            found["Entrypoint"] = json.loads(arguments)
        elif word == "HEALTHCHECK":
            found["Healthcheck"] = health(arguments)
        elif word != "COPY":
            found[{"USER": "User", "WORKDIR": "WorkingDir", "STOPSIGNAL": "StopSignal"}[word]] = (
                arguments
            )
    found["Env"] = [f"{key}={value}" for key, value in sorted(found["Env"].items())]
    return {key: value for key, value in found.items() if value}


def built(name: str) -> dict[str, Any]:
    """The configuration of Bazel's image."""
    layout = FILE.with_name(name)

    def read(digest: str) -> Any:
        return json.loads((layout / "blobs" / digest.replace(":", "/")).read_bytes())

    index = json.loads((layout / "index.json").read_bytes())
    return dict(read(read(index["manifests"][0]["digest"])["config"]["digest"])["config"])


@pytest.mark.parametrize("name", ["serving", "train"])
def test_it_says_what_bazels_image_says(name: str) -> None:
    assert configuration(FILE.read_text(), name) == built(name)


def test_an_image_is_files_of_bazel_and_nothing_else() -> None:
    text = FILE.read_text()
    assert ("FROM", "scratch AS base") in instructions(text)
    assert [arguments for word, arguments in stage(text, "base") if word == "COPY"] == [
        "--from=build /image/dependencies/ /",
        "--from=build /image/application/ /",
    ]
    for name in ("base", "serving", "train"):
        assert not {"RUN", "ADD"} & {word for word, _ in stage(text, name)}
    runs = [arguments for word, arguments in stage(text, "build") if word == "RUN"]
    assert runs[-1].endswith('./bazelw run "//infra/images:${IMAGE}.unpack" -- /image')
