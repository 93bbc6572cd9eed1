"""What each Python source of this folder imports; `./bazelw run //infra/lint -- --fix` writes it."""

DEPS = {
    "alibi.py": ["@pip//:numpy"],
    "config.py": ["//base:config", "@pip//:pydantic"],
    "flax_layer.py": ["//models:context", "@pip//:flax", "@pip//:jax"],
    "layer_test.py": [":alibi", ":config", ":flax_layer", ":rotary", ":torch_layer", ":weights", "//models/testing:parity", "@pip//:numpy", "@pip//:pytest"],
    "rotary.py": [":config", "@pip//:numpy"],
    "torch_layer.py": ["//models:context", "@pip//:torch"],
    "weights.py": [":config", "//models:initializers", "//models:network"],
}
