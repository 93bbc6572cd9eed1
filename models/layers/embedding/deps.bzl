"""What each Python source of this folder imports; `./bazelw run //infra/lint -- --fix` writes it."""

DEPS = {
    "config.py": ["//base:config", "//models:network", "//models/layers/fourier_features:config", "@pip//:pydantic"],
    "flax_layer.py": [":config", "//models/layers/fourier_features:flax_layer", "//models/layers/linear:flax_layer", "@pip//:flax", "@pip//:jax"],
    "layer_test.py": [":config", ":flax_layer", ":torch_layer", ":weights", "//models/flax:weights", "//models/testing:parity", "@pip//:jax", "@pip//:numpy", "@pip//:pytest", "@pip//:torch"],
    "torch_layer.py": [":config", "//models/layers/fourier_features:torch_layer", "//models/layers/linear:torch_layer", "@pip//:torch"],
    "weights.py": [":config", "//models:initializers", "//models:network", "//models/layers/fourier_features:weights", "//models/layers/linear:weights"],
}
