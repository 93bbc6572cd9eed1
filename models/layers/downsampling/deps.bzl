"""What each Python source of this folder imports; `./bazelw run //infra/lint -- --fix` writes it."""

DEPS = {
    "flax_layer.py": [":filters", "@pip//:jax"],
    "layer_test.py": [":filters", ":flax_layer", ":torch_layer", "@pip//:jax", "@pip//:numpy", "@pip//:pytest", "@pip//:scipy", "@pip//:torch"],
    "torch_layer.py": [":filters", "@pip//:torch"],
}
