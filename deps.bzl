"""What each Python source of this folder imports; `./bazelw run //infra/lint -- --fix` writes it."""

DEPS = {
    "quickstart.py": ["//base:interrupts", "//base:program", "//data:dataset", "//data/sources:digits", "//registry:artifact", "//serving/client:errors", "//serving/client:sync", "//train:cli", "//train:flax", "//train:meter", "//train:preflight", "//train:publication", "//train:torch", "//train/callbacks:progress", "//train/checkpoint:run_directory", "//train/config:load", "//train/config:schema", "@pip//:numpy", "@pip//:pillow", "@pip//:rich", "@pip//:typer"],
    "quickstart_main.py": ["//base:interrupts", "@pip//:typer"],
}
