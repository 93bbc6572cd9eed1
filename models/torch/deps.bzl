"""What each Python source of this folder imports; `./bazelw run //infra/lint -- --fix` writes it."""

DEPS = {
    "predict.py": [":weights", "//models:config", "@pip//:numpy", "@pip//:torch"],
    "vit.py": ["//kernels/attention:torch_op", "//models:config", "@pip//:torch"],
    "weights.py": [":vit", "//models:config", "//models:weights", "@pip//:numpy", "@pip//:torch"],
}
