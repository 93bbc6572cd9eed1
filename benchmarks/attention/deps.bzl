"""What each Python source of this folder imports; `./bazelw run //infra/lint -- --fix` writes it."""

DEPS = {
    "cases.py": ["//kernels/attention:contract", "@pip//:numpy"],
    "cases_test.py": [":suite", "//kernels/attention:contract", "@pip//:numpy", "@pip//:pytest"],
    "findings.py": ["//benchmarks/harness:harness"],
    "findings_test.py": [":suite", "//benchmarks/harness:harness", "//benchmarks/harness:testing", "@pip//:pytest"],
    "jax_sides.py": ["//benchmarks/harness:harness", "//kernels/attention:jax_op", "//kernels/attention:rope", "@pip//:jax", "@pip//:numpy"],
    "measure.py": ["//benchmarks/harness:harness", "@pip//:torch"],
    "peaks.py": ["//benchmarks/harness:harness", "@pip//:torch"],
    "report.py": ["//benchmarks/harness:harness"],
    "sides.py": ["//benchmarks/harness:harness", "//kernels:dispatch"],
    "suite.py": ["//base:options", "//benchmarks/harness:harness", "//kernels:dispatch"],
    "suite_test.py": [":suite", "//benchmarks/harness:harness", "@pip//:numpy", "@pip//:pytest"],
    "times.py": ["//benchmarks/harness:harness", "@pip//:numpy"],
    "torch_sides.py": ["//benchmarks/harness:harness", "//kernels/attention:rope", "//kernels/attention:torch_op", "@pip//:numpy", "@pip//:torch"],
}
