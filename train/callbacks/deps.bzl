"""What each Python source of this folder imports; `./bazelw run //infra/lint -- --fix` writes it."""

DEPS = {
    "progress.py": ["//train:events", "@pip//:rich"],
    "progress_test.py": [":progress", "//train:events", "@pip//:rich"],
}
