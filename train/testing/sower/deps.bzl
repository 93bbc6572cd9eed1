"""What each Python source of this folder imports; `./bazelw run //infra/lint -- --fix` writes it."""

DEPS = {
    "config.py": ["//base:config", "@pip//:pydantic"],
    "flax_network.py": [":config", "//kernels/attention:jax_op", "//models:context", "//models/layers/checkpointing:flax_layer", "//models/layers/dropout:flax_layer", "//models/layers/linear:flax_layer", "@pip//:flax", "@pip//:jax"],
    "network.py": [":config", ":flax_network", ":torch_network", "//models:initializers", "//models:network", "//models/layers/linear:weights", "@pip//:flax", "@pip//:torch"],
    "resumed_runs.py": [":runs", "//base:interrupts", "//comm/testing:ranks", "//comm/testing:zero_engines", "//registry:artifact", "//train:cli", "//train:events", "//train:flax", "//train:torch", "//train/checkpoint:run_directory", "//train/checkpoint:suspension", "//train/config:schema"],
    "runs.py": [":network", ":source", "//comm/testing:ranks", "//comm/testing:zero_engines", "//data:source", "//models:architecture", "//registry:artifact", "//train:events", "//train:flax", "//train:torch", "//train/checkpoint:run_directory", "//train/config:schema", "@pip//:numpy"],
    "source.py": ["//base:config", "//data:dataset", "@pip//:numpy"],
    "torch_network.py": [":config", "//kernels/attention:torch_op", "//models:context", "//models/layers/checkpointing:torch_layer", "//models/layers/dropout:torch_layer", "//models/layers/linear:torch_layer", "@pip//:torch"],
}
