"""What each Python source of this folder imports; `./bazelw run //infra/lint -- --fix` writes it."""

DEPS = {
    "flax_layer.py": ["@pip//:flax", "@pip//:jax"],
    "layer_test.py": [":flax_layer", ":torch_layer", ":weights", "//models/testing:parity", "@pip//:jax", "@pip//:numpy", "@pip//:pytest", "@pip//:torch"],
    "torch_layer.py": ["@pip//:torch"],
    "weights.py": ["//models:initializers", "//models:network"],
}
