"""What each Python source of this folder imports; `./bazelw run //infra/lint -- --fix` writes it."""

DEPS = {
    "findings.py": ["//benchmarks/harness:harness", "//benchmarks/tasks:tasks"],
    "measure.py": ["//benchmarks/harness:harness", "//benchmarks/tasks:tasks", "//optim:algorithm"],
    "report.py": ["//benchmarks/harness:harness", "//benchmarks/tasks:tasks", "@pip//:matplotlib"],
    "results.py": ["//benchmarks/harness:harness", "//benchmarks/tasks:tasks"],
    "search_test.py": [":suite", "@pip//:pytest"],
    "sides.py": ["//benchmarks/tasks:tasks", "//optim:algorithm"],
    "suite.py": ["//base:options", "//benchmarks/harness:harness", "//benchmarks/tasks:tasks", "//optim:registry"],
    "suite_test.py": [":suite", "//benchmarks/harness:harness", "@pip//:pytest"],
    "train.py": ["//base:seeds", "//benchmarks/tasks:tasks", "//optim:algorithm", "//optim/torch:curvature", "//optim/torch:optimizer", "@pip//:torch"],
}
