"""What each Python source of this folder imports; `./bazelw run //infra/lint -- --fix` writes it."""

DEPS = {
    "example.py": ["//train:evaluation", "//train:publication", "//train/config:load", "//train/config:schema", "@pip//:numpy"],
    "example_ranks.py": ["//train/launch:heartbeat"],
    "parity_runs.py": [":example", "//comm/testing:ranks", "//comm/testing:zero_engines", "//registry:artifact", "//train:cli", "//train:events", "//train:flax", "//train:torch", "//train/checkpoint:run_directory", "@pip//:jax", "@pip//:numpy"],
    "trainer_programs.py": [":example", "@pip//:pyyaml"],
}
