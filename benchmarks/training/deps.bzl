"""What each Python source of this folder imports; `./bazelw run //infra/lint -- --fix` writes it."""

DEPS = {
    "cases.py": ["//benchmarks/networks:suite"],
    "measure.py": ["//benchmarks/harness:harness", "//benchmarks/networks:suite", "//models:weights", "//train:events", "//train:flax", "//train:meter", "//train:recipe", "//train:torch", "//train/config:load", "//train/config:schema"],
    "report.py": ["//benchmarks/harness:harness", "//benchmarks/networks:suite", "@pip//:matplotlib"],
    "suite.py": ["//base:options", "//benchmarks/harness:harness", "//benchmarks/networks:suite"],
    "suite_test.py": [":suite", "//benchmarks/harness:harness", "//benchmarks/networks:suite", "@pip//:jax", "@pip//:pytest"],
    "turns.py": ["//train:events"],
}
