"""What each Python source of this folder imports; `./bazelw run //infra/lint -- --fix` writes it."""

DEPS = {
    "findings.py": ["//benchmarks/harness:harness", "//benchmarks/training:training"],
    "measure.py": ["//benchmarks/harness:harness", "//benchmarks/training:training", "//comm/testing:ranks"],
    "report.py": ["//benchmarks/harness:harness", "//benchmarks/training:training", "@pip//:matplotlib"],
    "results.py": ["//benchmarks/harness:harness", "//benchmarks/training:training"],
    "sides.py": ["//comm:compression", "//comm:wire", "//comm/torch:ddp", "//kernels/quantize:contract", "@pip//:torch"],
    "sides_test.py": [":suite", "//comm/testing:ranks", "@pip//:torch"],
    "suite.py": ["//base:options", "//benchmarks/harness:harness", "//benchmarks/training:training"],
    "suite_test.py": [":suite", "//base:options", "//benchmarks/harness:harness", "//benchmarks/harness:testing", "//benchmarks/training:training", "@pip//:pytest"],
    "train.py": ["//benchmarks/training:training", "//comm/testing:ranks", "//optim:adamw", "//optim/torch:optimizer", "@pip//:numpy", "@pip//:torch"],
}
