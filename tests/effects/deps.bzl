"""What each Python source of this folder imports; `./bazelw run //infra/lint -- --fix` writes it."""

DEPS = {
    "bases.py": [":content", "//train/config:reference", "@pip//:pyyaml"],
    "needs.py": [":bases", ":content", "//train/config:reference"],
    "outcome.py": ["//comm:compression", "//comm/testing:simulation", "//train:data_parallel", "//train:events", "//train:loop", "//train:publication", "//train:recipe", "//train/backends:deepspeed_backend", "//train/checkpoint:run_directory", "//train/checkpoint:store", "//train/config:schema", "@pip//:deepspeed", "@pip//:numpy", "@pip//:torch"],
    "values.py": ["//base:config", "//train/config:reference"],
}
