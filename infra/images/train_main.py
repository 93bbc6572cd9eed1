"""What the training image runs: `flax` or `torch` with a trainer's arguments, or `hpc`.

Presets are at /presets. `hpc` is the registry's command line. The image has a folder /output, so
that a new volume there can be written to by any user; what is in no volume ends with the container,
and a trainer that would write there is not started.
"""

import os
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path

TRAINERS: Mapping[str, str] = {
    "flax": "train.main_flax",
    "torch": "train.main_torch",
}
PROGRAMS: Mapping[str, str] = {**TRAINERS, "hpc": "evaluation.main_hpc"}

OUTPUT = Path("/output")

_USAGE = (
    f"expected {', '.join(PROGRAMS)} and its arguments, such as: flax --config "
    f"/presets/digits.yaml --output {OUTPUT}/digits, with -v DIRECTORY:{OUTPUT}"
)
_NOT_KEPT = (
    f"error: nothing is mounted at {OUTPUT}, and what is written there would end with the "
    f"container: mount a directory that its user may write to (-v DIRECTORY:{OUTPUT})"
)
_NO_TEMPORARY_FILES = (
    "error: a trainer writes temporary files, and may do so nowhere: give the container a "
    "--tmpfs /tmp"
)


def is_lost(arguments: Sequence[str], is_mount: Callable[[Path], bool]) -> bool:
    """Returns whether a trainer with these arguments would write into the container itself.

    Args:
        arguments: Of the trainer.
        is_mount: Whether something is mounted at a path.
    """
    words = [word for argument in arguments for word in argument.split("=", 1)]
    named = [after for word, after in pairwise(words) if word == "--output"]
    if not named:
        return False
    target = Path("/", os.path.normpath(named[-1]))
    places = [place for place in (target, *target.parents) if place.is_relative_to(OUTPUT)]
    return bool(places) and not any(map(is_mount, places))


def _obstacle(arguments: Sequence[str]) -> str | None:
    """Why a trainer is not started."""
    if is_lost(arguments, os.path.ismount):
        return _NOT_KEPT
    try:
        tempfile.gettempdir()
    except FileNotFoundError:
        return _NO_TEMPORARY_FILES
    return None


def _main() -> None:
    name, *arguments = sys.argv[1:] or [""]
    if name in ("-h", "--help"):
        print(_USAGE)
        return
    if name not in PROGRAMS:
        print(f"error: {_USAGE}", file=sys.stderr)
        sys.exit(2)
    if name in TRAINERS and (obstacle := _obstacle(arguments)):
        print(obstacle, file=sys.stderr)
        sys.exit(2)
    # In its place, so that the container's signals are the trainer's.
    os.execv(sys.executable, [sys.executable, "-m", PROGRAMS[name], *arguments])  # noqa: S606


if __name__ == "__main__":
    _main()
