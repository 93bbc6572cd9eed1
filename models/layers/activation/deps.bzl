"""What each Python source of this folder imports; `./bazelw run //infra/lint -- --fix` writes it."""

DEPS = {
    "flax_layer.py": [":names", "@pip//:jax"],
    "layer_test.py": [":flax_layer", ":names", ":torch_layer", "@pip//:jax", "@pip//:numpy", "@pip//:pytest", "@pip//:torch"],
    "torch_layer.py": [":names", "@pip//:torch"],
}
