"""What each Python source of this folder imports; `./bazelw run //infra/lint -- --fix` writes it."""

DEPS = {
    "parity.py": ["//models:context", "//models:network", "//models/flax:weights", "@pip//:flax", "@pip//:jax", "@pip//:numpy", "@pip//:torch"],
}
