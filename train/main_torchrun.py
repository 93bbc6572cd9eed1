"""`//train:torchrun`, torch's launcher, with all that `//train:torch` needs.

./bazelw run //train:torchrun -- --nproc-per-node 2 -m train.main_torch \
        --config config/digits.yaml --output runs/digits
"""

import os

from torch.distributed.run import main

if __name__ == "__main__":
    # Paths are the user's, and Bazel starts programs elsewhere.
    os.chdir(os.environ.get("BUILD_WORKING_DIRECTORY", "."))
    main()
