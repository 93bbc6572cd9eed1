"""What each Python source of this folder imports; `./bazelw run //infra/lint -- --fix` writes it."""

DEPS = {
    "predict.py": [":weights", "//models:config", "@pip//:flax", "@pip//:jax", "@pip//:numpy"],
    "vit.py": ["//kernels/attention:jax_op", "//models:config", "@pip//:flax", "@pip//:jax"],
    "weights.py": [":vit", "//models:config", "//models:weights", "@pip//:flax", "@pip//:jax", "@pip//:numpy"],
}
