"""`//train:flax`, the program: checks what it is asked for, and only then imports Flax.

./bazelw run //train:flax -- --config config/digits.yaml
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from base.interrupts import exit_when_interrupted

if TYPE_CHECKING:
    from train.cli import Train


def main() -> None:
    """Trains as the command line asks, and ends the process."""
    from train import cli

    cli.main("flax", _load)


def _load() -> Train:
    from train.train_flax import train

    return train


if __name__ == "__main__":
    with exit_when_interrupted("interrupted: nothing half-written was left", holds_back=True):
        main()
