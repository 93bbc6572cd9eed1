"""What the training image runs: `flax` or `torch` with a trainer's arguments, or `hpc`.

Presets are at /presets. `hpc` is the registry's command line.
"""

import os
import sys
from collections.abc import Mapping

PROGRAMS: Mapping[str, str] = {
    "flax": "train.main_flax",
    "torch": "train.main_torch",
    "hpc": "evaluation.main_hpc",
}

_USAGE = (
    f"error: expected {', '.join(PROGRAMS)} and its arguments, such as: flax --config "
    "/presets/digits.yaml --output /output/digits, with -v DIRECTORY:/output"
)


def _main() -> None:
    name, *arguments = sys.argv[1:] or [""]
    if name not in PROGRAMS:
        print(_USAGE, file=sys.stderr)
        sys.exit(2)
    # In its place, so that the container's signals are the trainer's.
    os.execv(sys.executable, [sys.executable, "-m", PROGRAMS[name], *arguments])  # noqa: S606


if __name__ == "__main__":
    _main()
