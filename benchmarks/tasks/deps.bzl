"""What each Python source of this folder imports; `./bazelw run //infra/lint -- --fix` writes it."""

DEPS = {
    "comparison.py": ["@pip//:numpy", "@pip//:scipy"],
    "comparison_test.py": [":tasks", "@pip//:numpy", "@pip//:pytest", "@pip//:scipy"],
    "tasks.py": ["//benchmarks/harness:harness", "//data/sources:digits", "//data/sources:stdlib_text", "//models:architecture", "//models:weights", "//models/torch:weights", "//optim:adamw", "//optim:schedule", "//train:recipe", "//train/config:load", "//train/config:schema", "//train/tasks/classification:task", "@pip//:numpy", "@pip//:torch"],
    "tasks_test.py": [":tasks", "@pip//:torch"],
}
