"""What each Python source of this folder imports; `./bazelw run //infra/lint -- --fix` writes it."""

DEPS = {
    "findings.py": ["//benchmarks/harness:harness", "//benchmarks/training:training"],
    "measure.py": ["//benchmarks/harness:harness", "//benchmarks/training:training", "//optim:algorithm"],
    "report.py": ["//benchmarks/harness:harness", "//benchmarks/training:training", "@pip//:matplotlib"],
    "results.py": ["//benchmarks/harness:harness", "//benchmarks/training:training"],
    "search_test.py": [":suite", "@pip//:pytest"],
    "sides.py": ["//benchmarks/training:training", "//optim:algorithm"],
    "suite.py": ["//base:options", "//benchmarks/harness:harness", "//benchmarks/training:training", "//optim:registry"],
    "suite_test.py": [":suite", "//benchmarks/harness:harness", "@pip//:pytest"],
    "train.py": ["//base:seeds", "//benchmarks/training:training", "//optim:algorithm", "//optim/torch:curvature", "//optim/torch:optimizer", "@pip//:torch"],
}
