"""`//train:deepspeed`, DeepSpeed's launcher, with all that `//train:torch` needs.

./bazelw run //train:deepspeed -- --hostfile hosts --module train.main_torch \
        --config config/digits.yaml --output /shared/runs/digits
"""

import os

from deepspeed.launcher.runner import main

if __name__ == "__main__":
    # Paths are the user's, and Bazel starts programs elsewhere.
    os.chdir(os.environ.get("BUILD_WORKING_DIRECTORY", "."))
    main()
