"""What each Python source of this folder imports; `./bazelw run //infra/lint -- --fix` writes it."""

DEPS = {
    "config.py": ["//base:config", "@pip//:pydantic"],
    "flax_network.py": [":config", "@pip//:flax", "@pip//:jax"],
    "network.py": [":config", ":flax_network", ":torch_network", "//models:network", "@pip//:flax", "@pip//:numpy", "@pip//:torch"],
    "optimizer.py": ["//optim:algorithm", "@pip//:pydantic"],
    "source.py": ["//base:config", "//data:dataset", "@pip//:numpy", "@pip//:pydantic"],
    "torch_network.py": [":config", "@pip//:torch"],
}
