"""The registry's command line: versions, origin, stages, evaluation.

    ./bazelw run //registry:hpc -- list
    ./bazelw run //registry:hpc -- compare digits@champion digits:1.2.0 --html compare.html

Every command but `bench` is of the room `registry`, which knows no network; `bench` runs one.
"""

from base.interrupts import exit_when_interrupted, hear_signals_in_imports

if __name__ == "__main__":
    hear_signals_in_imports("interrupted")

from evaluation.command import bench
from registry.commands.app import app_with

if __name__ == "__main__":
    with exit_when_interrupted("interrupted"):
        app_with({"bench": bench})(prog_name="//registry:hpc")
