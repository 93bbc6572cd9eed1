"""What each Python source of this folder imports; `./bazelw run //infra/lint -- --fix` writes it."""

DEPS = {
    "main.py": ["//base:interrupts", "//base:program", "//benchmarks/harness:harness"],
    "main_test.py": [":main", "@pip//:pytest"],
    "results_test.py": [":main", "//benchmarks/harness:harness", "@pip//:pytest"],
}
