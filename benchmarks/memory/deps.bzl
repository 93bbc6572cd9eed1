"""What each Python source of this folder imports; `./bazelw run //infra/lint -- --fix` writes it."""

DEPS = {
    "findings.py": ["//benchmarks/harness:harness"],
    "measure.py": ["//benchmarks/harness:harness"],
    "report.py": ["//benchmarks/harness:harness"],
    "sides.py": ["//models:architecture", "//models:context", "@pip//:flax", "@pip//:jax", "@pip//:numpy", "@pip//:torch"],
    "suite.py": ["//base:options", "//benchmarks/harness:harness"],
    "suite_test.py": [":suite", "//benchmarks/harness:harness", "@pip//:pytest"],
}
