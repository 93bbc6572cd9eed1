"""What each Python source of this folder imports; `./bazelw run //infra/lint -- --fix` writes it."""

DEPS = {
    "findings.py": ["//benchmarks/harness:harness"],
    "measure.py": ["//benchmarks/harness:harness", "//models:weights", "//train:recipe", "//train/config:schema", "@pip//:jax", "@pip//:numpy"],
    "plain_flax.py": ["@pip//:flax", "@pip//:jax", "@pip//:optax"],
    "plain_torch.py": ["@pip//:torch"],
    "report.py": ["//benchmarks/harness:harness"],
    "sides.py": ["//models:weights", "//models/flax:weights", "//models/torch:weights", "//train:recipe", "//train/backends:deepspeed_backend", "//train/backends:flax_backend", "//train/config:schema", "//train/launch:process_group", "@pip//:torch"],
    "suite.py": ["//base:options", "//benchmarks/harness:harness"],
    "suite_test.py": [":suite", "//benchmarks/harness:harness", "@pip//:pytest"],
}
