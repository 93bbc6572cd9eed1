"""What each Python source of this folder imports; `./bazelw run //infra/lint -- --fix` writes it."""

DEPS = {
    "load_test.py": [":harness", "@pip//:pytest"],
    "machine.py": ["//base:provenance", "@pip//:pydantic"],
    "memory_test.py": [":harness", "@pip//:numpy", "@pip//:pytest"],
    "plot.py": ["@pip//:matplotlib"],
    "plot_test.py": [":harness", "@pip//:pytest"],
    "record.py": ["@pip//:pydantic"],
    "record_test.py": [":harness", ":testing", "@pip//:pydantic", "@pip//:pytest"],
    "result_files.py": ["//base:files", "//base:program"],
    "result_files_test.py": [":harness", "@pip//:pytest"],
    "runner.py": ["//base:options", "//base:program"],
    "runner_test.py": [":harness", "@pip//:pytest"],
    "suite.py": ["//base:options"],
    "testing.py": [":harness"],
    "timing.py": ["@pip//:numpy", "@pip//:pydantic"],
    "timing_test.py": [":harness", "@pip//:pytest"],
}
