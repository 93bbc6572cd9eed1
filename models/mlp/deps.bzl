"""What each Python source of this folder imports; `./bazelw run //infra/lint -- --fix` writes it."""

DEPS = {
    "config.py": ["//base:config", "//models/layers/activation:names", "//models/layers/attention:config", "//models/layers/embedding:config", "//models/layers/feed_forward:config", "//models/layers/head:config", "//models/layers/mixture_of_experts:config", "//models/layers/norm:config", "//models/layers/positions:config", "@pip//:pydantic"],
    "config_test.py": ["//models:architecture", "//models:weights", "@pip//:pydantic", "@pip//:pytest"],
    "decoding.py": [":config", "//models:context"],
    "flax_block.py": [":config", "//models:context", "//models/layers/attention:flax_layer", "//models/layers/dropout:flax_layer", "//models/layers/feed_forward:flax_layer", "//models/layers/mixture_of_experts:flax_layer", "//models/layers/norm:flax_layer", "@pip//:flax", "@pip//:jax"],
    "flax_network.py": [":config", ":flax_block", "//models:context", "//models/layers/activation:flax_layer", "//models/layers/checkpointing:flax_layer", "//models/layers/dropout:flax_layer", "//models/layers/embedding:flax_layer", "//models/layers/head:flax_layer", "//models/layers/linear:flax_layer", "//models/layers/norm:flax_layer", "//models/layers/positions:flax_layer", "@pip//:flax", "@pip//:jax"],
    "network.py": [":config", ":flax_network", ":torch_network", ":weights", "//models:network", "@pip//:flax", "@pip//:torch"],
    "parity_test.py": [":cases", ":config", ":flax_network", ":torch_network", ":weights", "//models/testing:parity", "@pip//:jax", "@pip//:numpy", "@pip//:pytest"],
    "properties_test.py": [":config", ":decoding", ":flax_network", ":torch_network", ":weights", "//models:context", "//models/flax:weights", "//models/testing:parity", "@pip//:jax", "@pip//:numpy", "@pip//:pytest", "@pip//:torch"],
    "torch_block.py": [":config", "//models:context", "//models/layers/attention:torch_layer", "//models/layers/dropout:torch_layer", "//models/layers/feed_forward:torch_layer", "//models/layers/mixture_of_experts:torch_layer", "//models/layers/norm:torch_layer", "@pip//:torch"],
    "torch_network.py": [":config", ":torch_block", "//models:context", "//models/layers/activation:torch_layer", "//models/layers/checkpointing:torch_layer", "//models/layers/dropout:torch_layer", "//models/layers/embedding:torch_layer", "//models/layers/head:torch_layer", "//models/layers/linear:torch_layer", "//models/layers/norm:torch_layer", "//models/layers/positions:torch_layer", "@pip//:torch"],
    "weights.py": [":config", "//models:initializers", "//models:network", "//models/layers/attention:weights", "//models/layers/embedding:weights", "//models/layers/feed_forward:weights", "//models/layers/head:weights", "//models/layers/linear:weights", "//models/layers/mixture_of_experts:weights", "//models/layers/norm:weights", "//models/layers/positions:weights"],
}
