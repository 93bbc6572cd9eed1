"""What each Python source of this folder imports; `./bazelw run //infra/lint -- --fix` writes it."""

DEPS = {
    "config.py": ["//base:config", "@pip//:pydantic"],
    "flax_layer.py": [":config", ":count", ":weights", "//models:context", "@pip//:flax", "@pip//:jax"],
    "layer_test.py": [":config", ":flax_layer", ":torch_layer", ":weights", "//models:context", "//models/testing:parity", "@pip//:numpy", "@pip//:pydantic", "@pip//:pytest", "@pip//:torch"],
    "torch_layer.py": [":config", ":count", ":weights", "//models:context", "@pip//:torch"],
    "weights.py": [":config", "//models:initializers", "//models:network"],
}
