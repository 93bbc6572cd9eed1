"""What each Python source of this folder imports; `./bazelw run //infra/lint -- --fix` writes it."""

DEPS = {
    "predict.py": [":weights", "//models:architecture", "//models:network", "@pip//:numpy", "@pip//:torch"],
    "weights.py": ["//models:architecture", "//models:weights", "@pip//:numpy", "@pip//:torch"],
}
