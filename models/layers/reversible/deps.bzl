"""What each Python source of this folder imports; `./bazelw run //infra/lint -- --fix` writes it."""

DEPS = {
    "flax_layer.py": ["//models:context", "@pip//:flax", "@pip//:jax"],
    "layer_test.py": [":flax_layer", ":torch_layer", "//models:context", "//models:initializers", "//models:network", "//models/layers/dropout:flax_layer", "//models/layers/dropout:torch_layer", "//models/layers/linear:flax_layer", "//models/layers/linear:torch_layer", "//models/layers/linear:weights", "//models/testing:parity", "@pip//:flax", "@pip//:jax", "@pip//:numpy", "@pip//:pytest", "@pip//:torch"],
    "torch_layer.py": ["//models:context", "@pip//:torch"],
}
