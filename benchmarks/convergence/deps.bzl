"""What each Python source of this folder imports; `./bazelw run //infra/lint -- --fix` writes it."""

DEPS = {
    "findings.py": ["//benchmarks/harness:harness", "//benchmarks/tasks:tasks"],
    "measure.py": ["//benchmarks/harness:harness", "//benchmarks/tasks:tasks", "//comm/testing:ranks"],
    "report.py": ["//benchmarks/harness:harness", "//benchmarks/tasks:tasks", "@pip//:matplotlib"],
    "results.py": ["//benchmarks/harness:harness", "//benchmarks/tasks:tasks"],
    "sides.py": ["//comm:compression", "//comm:wire", "//comm/torch:ddp", "//kernels/quantize:contract", "@pip//:torch"],
    "sides_test.py": [":suite", "//comm/testing:ranks", "@pip//:torch"],
    "suite.py": ["//base:options", "//benchmarks/harness:harness", "//benchmarks/tasks:tasks"],
    "suite_test.py": [":suite", "//base:options", "//benchmarks/harness:harness", "//benchmarks/harness:testing", "//benchmarks/tasks:tasks", "@pip//:pytest"],
    "train.py": ["//benchmarks/tasks:tasks", "//comm/testing:ranks", "//optim:adamw", "//optim/torch:optimizer", "@pip//:numpy", "@pip//:torch"],
}
