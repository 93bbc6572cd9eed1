"""What each Python source of this folder imports; `./bazelw run //infra/lint -- --fix` writes it."""

DEPS = {
    "export.py": ["//kernels:portable", "//models:architecture", "//models:network", "//models:weights", "@pip//:torch"],
    "predict.py": [":weights", "//models:architecture", "//models:network", "@pip//:numpy", "@pip//:torch"],
    "weights.py": ["//models:architecture", "//models:weights", "@pip//:numpy", "@pip//:torch"],
}
