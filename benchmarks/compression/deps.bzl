"""What each Python source of this folder imports; `./bazelw run //infra/lint -- --fix` writes it."""

DEPS = {
    "exchange.py": ["@pip//:torch"],
    "exchange_test.py": [":suite", "@pip//:pytest", "@pip//:torch"],
    "findings.py": ["//benchmarks/harness:harness"],
    "findings_test.py": [":suite", "//benchmarks/harness:harness", "//benchmarks/harness:testing", "@pip//:pytest"],
    "kernels.py": ["//benchmarks/harness:harness", "//kernels/quantize:contract", "//kernels/quantize:torch_op", "@pip//:torch"],
    "link_test.py": [":suite", "@pip//:pytest"],
    "measure.py": ["//benchmarks/harness:harness", "@pip//:torch"],
    "network_test.py": [":suite", "@pip//:pytest"],
    "report.py": ["//benchmarks/harness:harness"],
    "sides.py": ["//comm:compression", "//comm:wire", "//comm/torch:ddp", "//kernels/quantize:contract", "@pip//:torch"],
    "suite.py": ["//base:options", "//benchmarks/harness:harness"],
    "suite_test.py": [":suite", "//base:options", "//benchmarks/harness:harness", "//benchmarks/harness:testing", "@pip//:pytest"],
    "times.py": ["//benchmarks/harness:harness", "//comm:wire"],
    "times_test.py": [":suite", "//benchmarks/harness:harness", "@pip//:pytest"],
    "worker.py": ["//comm:wire", "@pip//:torch"],
}
