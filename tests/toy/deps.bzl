"""What each Python source of this folder imports; `./bazelw run //infra/lint -- --fix` writes it."""

DEPS = {
    "config.py": ["//base:config", "@pip//:pydantic"],
    "flax_network.py": [":config", "//models:context", "//models/layers/linear:flax_layer", "@pip//:flax", "@pip//:jax"],
    "network.py": [":config", ":flax_network", ":torch_network", "//models:initializers", "//models:network", "//models/layers/linear:weights", "@pip//:flax", "@pip//:torch"],
    "optimizer.py": ["//optim:algorithm", "@pip//:pydantic"],
    "source.py": ["//base:config", "//data:dataset", "@pip//:numpy", "@pip//:pydantic"],
    "torch_network.py": [":config", "//models:context", "@pip//:torch"],
}
