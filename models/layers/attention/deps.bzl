"""What each Python source of this folder imports; `./bazelw run //infra/lint -- --fix` writes it."""

DEPS = {
    "config.py": ["//base:config", "//models/layers/norm:config", "//models/layers/positions:config", "//models/layers/positions:rotary", "@pip//:pydantic"],
    "flax_layer.py": [":cache", ":config", ":weights", "//kernels/attention:contract", "//kernels/attention:jax_op", "//kernels/attention:rope", "//kernels/linear_attention:jax_op", "//models:context", "//models/layers/dropout:flax_layer", "//models/layers/linear:flax_layer", "//models/layers/norm:flax_layer", "//models/layers/positions:alibi", "//models/layers/positions:config", "//models/layers/positions:rotary", "@pip//:flax", "@pip//:jax"],
    "layer_test.py": [":config", ":flax_layer", ":torch_layer", ":weights", "//models/layers/positions:config", "//models/testing:parity", "@pip//:numpy", "@pip//:pytest"],
    "torch_layer.py": [":cache", ":config", ":weights", "//kernels/attention:contract", "//kernels/attention:rope", "//kernels/attention:torch_op", "//kernels/linear_attention:torch_op", "//models:context", "//models/layers/dropout:torch_layer", "//models/layers/linear:torch_layer", "//models/layers/norm:torch_layer", "//models/layers/positions:alibi", "//models/layers/positions:config", "//models/layers/positions:rotary", "@pip//:torch"],
    "weights.py": [":config", "//models:initializers", "//models:network", "//models/layers/linear:weights", "//models/layers/norm:weights", "//models/layers/positions:alibi", "//models/layers/positions:config", "@pip//:numpy"],
}
