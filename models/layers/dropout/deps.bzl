"""What each Python source of this folder imports; `./bazelw run //infra/lint -- --fix` writes it."""

DEPS = {
    "flax_layer.py": [":hash", "//models:context", "@pip//:jax", "@pip//:numpy"],
    "layer_test.py": [":flax_layer", ":torch_layer", "//models:context", "@pip//:jax", "@pip//:numpy", "@pip//:pytest", "@pip//:scipy", "@pip//:torch"],
    "torch_layer.py": [":hash", "//models:context", "@pip//:torch"],
}
