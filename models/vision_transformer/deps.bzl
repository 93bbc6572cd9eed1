"""What each Python source of this folder imports; `./bazelw run //infra/lint -- --fix` writes it."""

DEPS = {
    "config.py": ["//base:config", "@pip//:pydantic"],
    "config_test.py": ["//models:architecture", "@pip//:pydantic", "@pip//:pytest"],
    "flax_network.py": [":config", "//kernels/attention:jax_op", "//models:context", "@pip//:flax", "@pip//:jax"],
    "network.py": [":config", ":flax_network", ":torch_network", ":weights", "//models:network", "@pip//:flax", "@pip//:torch"],
    "parity_test.py": [":torch_network", "//models:architecture", "//models:weights", "//models/flax:predict", "//models/flax:weights", "//models/torch:predict", "//models/torch:weights", "@pip//:flax", "@pip//:jax", "@pip//:numpy", "@pip//:optax", "@pip//:pytest", "@pip//:torch"],
    "torch_network.py": [":config", "//kernels/attention:torch_op", "//models:context", "@pip//:torch"],
    "weights.py": [":config", "//models:initializers", "//models:network", "//models/layers/linear:weights"],
}
