"""`//train:tensorboard`, TensorBoard as the lock has it: shows the curves of runs.

./bazelw run //train:tensorboard -- --logdir runs
"""

import os

from tensorboard.main import run_main

if __name__ == "__main__":
    # Paths are the user's, and Bazel starts programs elsewhere.
    os.chdir(os.environ.get("BUILD_WORKING_DIRECTORY", "."))
    run_main()
