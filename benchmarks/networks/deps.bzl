"""What each Python source of this folder imports; `./bazelw run //infra/lint -- --fix` writes it."""

DEPS = {
    "findings.py": ["//benchmarks/harness:harness"],
    "flax_networks.py": ["@pip//:flax", "@pip//:jax"],
    "measure.py": ["//benchmarks/harness:harness", "//models:weights", "//train:recipe", "@pip//:jax", "@pip//:numpy"],
    "plain_flax.py": ["//optim:adamw", "//train/config:schema", "@pip//:flax", "@pip//:jax", "@pip//:optax"],
    "plain_torch.py": ["//optim:adamw", "//train/config:schema", "@pip//:deepspeed", "@pip//:torch"],
    "report.py": ["//benchmarks/harness:harness"],
    "runs.py": ["//train/config:load", "//train/config:schema"],
    "sides.py": ["//models:context", "//models:weights", "//models/flax:weights", "//models/torch:weights", "//train:recipe", "//train/backends:deepspeed_backend", "//train/backends:flax_backend", "//train/config:schema", "//train/launch:process_group", "@pip//:flax", "@pip//:jax", "@pip//:torch"],
    "suite.py": ["//base:options", "//benchmarks/harness:harness"],
    "suite_test.py": [":suite", "//benchmarks/harness:harness", "@pip//:jax", "@pip//:pytest"],
    "torch_networks.py": ["@pip//:torch"],
}
