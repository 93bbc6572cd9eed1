"""What each Python source of this folder imports; `./bazelw run //infra/lint -- --fix` writes it."""

DEPS = {
    "bases.py": [":content", "//base:config_reference", "@pip//:pyyaml"],
    "needs.py": [":bases", ":content", "//base:config_reference"],
    "outcome.py": [":scripted", "//comm:compression", "//comm/testing:simulation", "//models:network", "//train:data_parallel", "//train:events", "//train:loop", "//train:publication", "//train:recipe", "//train:torch", "//train/backends:deepspeed_backend", "//train/checkpoint:beginning", "//train/checkpoint:run_directory", "//train/checkpoint:store", "//train/checkpoint:suspension", "//train/config:schema", "//train/launch:torch_ranks", "@pip//:deepspeed", "@pip//:numpy", "@pip//:torch"],
    "scripted.py": ["//train:events", "//train/callbacks:callbacks", "//train/callbacks:table", "//train/config:schema", "//train/tasks:table"],
    "values.py": ["//base:config", "//base:config_reference"],
}
