"""What each Python source of this folder imports; `./bazelw run //infra/lint -- --fix` writes it."""

DEPS = {
    "ops.py": ["@pip//:deepspeed"],
    "scratch_test.py": [":scratch", "@pip//:pytest"],
    "swapped.py": ["@pip//:deepspeed", "@pip//:torch"],
    "swapped_test.py": [":swapped", "//models/testing:parity", "//train:recipe", "//train/backends:deepspeed_backend", "//train/config:schema", "//train/launch:process_group", "@pip//:deepspeed", "@pip//:numpy", "@pip//:pytest"],
}
