"""What each Python source of this folder imports; `./bazelw run //infra/lint -- --fix` writes it."""

DEPS = {
    "launched_test.py": [":launched", "@pip//:pytest"],
    "launcher.py": [":heartbeat", "//base:interrupts"],
    "launcher_test.py": [":heartbeat", ":launcher", "//train/testing:example_ranks", "@pip//:pytest"],
    "process_group.py": [":launched", "//train/config:schema", "@pip//:numpy", "@pip//:torch"],
    "torch_ranks.py": [":launcher", ":process_group", "//proto/hpc/artifact/v1:artifact_py_proto", "//registry:artifact", "//train:events", "//train:meter", "//train:publication", "//train/callbacks:callbacks", "//train/checkpoint:beginning", "//train/checkpoint:run_directory", "//train/checkpoint:suspension", "//train/config:schema"],
}
