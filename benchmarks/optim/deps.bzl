"""What each Python source of this folder imports; `./bazelw run //infra/lint -- --fix` writes it."""

DEPS = {
    "findings.py": ["//benchmarks/harness:harness"],
    "measure.py": ["//benchmarks/harness:harness", "@pip//:torch"],
    "report.py": ["//benchmarks/harness:harness"],
    "sides.py": ["//benchmarks/harness:harness", "//optim:algorithm", "//optim:registry", "//optim/jax:fused", "//optim/jax:transformation", "//optim/torch:optimizer", "@pip//:bitsandbytes", "@pip//:jax", "@pip//:numpy", "@pip//:optax", "@pip//:pytorch_optimizer", "@pip//:torch"],
    "suite.py": ["//base:options", "//benchmarks/harness:harness", "//optim:registry"],
    "suite_test.py": [":suite", "//benchmarks/harness:harness", "//optim:registry", "@pip//:numpy", "@pip//:pytest"],
}
