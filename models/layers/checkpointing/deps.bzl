"""What each Python source of this folder imports; `./bazelw run //infra/lint -- --fix` writes it."""

DEPS = {
    "flax_layer.py": ["//kernels:jax_derivatives", "//models:context", "@pip//:jax"],
    "layer_test.py": [":flax_layer", ":torch_layer", "//kernels/attention:jax_op", "//kernels/attention:torch_op", "//models:context", "//models/layers/dropout:flax_layer", "//models/layers/dropout:torch_layer", "@pip//:jax", "@pip//:numpy", "@pip//:pytest", "@pip//:torch"],
    "torch_layer.py": ["//models:context", "@pip//:torch"],
}
