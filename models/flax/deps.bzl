"""What each Python source of this folder imports; `./bazelw run //infra/lint -- --fix` writes it."""

DEPS = {
    "export.py": [":weights", "//kernels:portable", "//models:architecture", "//models:network", "//models:weights", "@pip//:flax", "@pip//:jax", "@pip//:numpy"],
    "predict.py": [":weights", "//models:architecture", "//models:network", "//models:weights", "@pip//:flax", "@pip//:jax", "@pip//:numpy"],
    "weights.py": ["//models:architecture", "//models:weights", "@pip//:flax", "@pip//:jax", "@pip//:numpy"],
}
