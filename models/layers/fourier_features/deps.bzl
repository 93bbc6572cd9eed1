"""What each Python source of this folder imports; `./bazelw run //infra/lint -- --fix` writes it."""

DEPS = {
    "config.py": ["//base:config", "@pip//:pydantic"],
    "coordinates.py": ["@pip//:numpy"],
    "flax_layer.py": [":config", "@pip//:flax", "@pip//:jax"],
    "layer_test.py": [":config", ":coordinates", ":flax_layer", ":torch_layer", ":weights", "//models/testing:parity", "@pip//:numpy", "@pip//:pydantic", "@pip//:pytest", "@pip//:torch"],
    "torch_layer.py": [":config", "@pip//:torch"],
    "weights.py": [":config", "//models:initializers", "//models:network"],
}
