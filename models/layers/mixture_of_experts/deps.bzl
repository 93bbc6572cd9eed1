"""What each Python source of this folder imports; `./bazelw run //infra/lint -- --fix` writes it."""

DEPS = {
    "config.py": ["//base:config", "@pip//:numpy", "@pip//:pydantic"],
    "flax_experts.py": ["//kernels:portable", "//models:context", "//models/layers/activation:flax_layer", "//models/layers/dropout:flax_layer", "//models/layers/feed_forward:config", "@pip//:flax", "@pip//:jax"],
    "flax_layer.py": [":config", ":flax_experts", ":flax_routing", "//models:context", "//models/layers/dropout:flax_layer", "//models/layers/feed_forward:config", "//models/layers/feed_forward:flax_layer", "//models/layers/linear:flax_layer", "@pip//:flax", "@pip//:jax"],
    "flax_routing.py": [":config", "//models:context", "//models/layers/dropout:flax_layer", "@pip//:jax"],
    "layer_test.py": [":config", ":flax_layer", ":reference", ":torch_layer", ":weights", "//models/layers/feed_forward:config", "//models/layers/feed_forward:torch_layer", "//models/layers/feed_forward:weights", "//models/testing:parity", "@pip//:numpy", "@pip//:pytest", "@pip//:scipy"],
    "reference.py": [":config", "//models/layers/feed_forward:config", "//models/testing:parity", "@pip//:numpy", "@pip//:scipy"],
    "torch_experts.py": ["//kernels:portable", "//models:context", "//models/layers/activation:torch_layer", "//models/layers/dropout:torch_layer", "//models/layers/feed_forward:config", "@pip//:torch"],
    "torch_layer.py": [":config", ":torch_experts", ":torch_routing", "//models:context", "//models/layers/dropout:torch_layer", "//models/layers/feed_forward:config", "//models/layers/feed_forward:torch_layer", "//models/layers/linear:torch_layer", "@pip//:torch"],
    "torch_routing.py": [":config", "//models:context", "//models/layers/dropout:torch_layer", "@pip//:torch"],
    "weights.py": [":config", "//models:initializers", "//models:network", "//models/layers/feed_forward:config", "//models/layers/feed_forward:weights", "//models/layers/linear:weights"],
}
