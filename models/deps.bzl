"""What each Python source of this folder imports; `./bazelw run //infra/lint -- --fix` writes it."""

DEPS = {
    "architecture.py": [":network", "//base:config", "//models/vision_transformer:network", "@pip//:pydantic"],
    "network.py": ["//base:config", "@pip//:flax", "@pip//:numpy", "@pip//:torch"],
    "weights.py": [":architecture", ":network", "//base:seeds", "@pip//:numpy"],
    "weights_test.py": [":architecture", ":weights", "//models/flax:weights", "//models/torch:weights", "@pip//:flax", "@pip//:jax", "@pip//:numpy", "@pip//:pytest", "@pip//:torch"],
}
