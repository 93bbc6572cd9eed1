"""`//train:torch`, the program: checks what it is asked for, and only then imports PyTorch.

./bazelw run //train:torch -- --config config/digits.yaml
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from base.interrupts import exit_when_interrupted

if TYPE_CHECKING:
    from train.cli import Train, TrainLaunched


def main() -> None:
    """Trains as the command line asks, and ends the process."""
    from train import cli

    cli.main("torch", _load, _load_launched)


def _load() -> Train:
    from train.train_torch import train

    return train


def _load_launched() -> TrainLaunched:
    from train.train_torch import train_launched

    return train_launched


if __name__ == "__main__":
    with exit_when_interrupted("interrupted: nothing half-written was left", holds_back=True):
        main()
