"""What each Python source of this folder imports; `./bazelw run //infra/lint -- --fix` writes it."""

DEPS = {
    "architecture.py": [":network", "//base:config", "//models/cnn:network", "//models/mlp:network", "//models/vision_transformer:network", "@pip//:pydantic"],
    "initializers.py": ["@pip//:numpy"],
    "network.py": [":initializers", "//base:config", "@pip//:flax", "@pip//:numpy", "@pip//:torch"],
    "weights.py": [":architecture", ":initializers", "//base:seeds", "@pip//:numpy"],
    "weights_test.py": [":architecture", ":initializers", ":network", ":weights", "//models/flax:weights", "//models/torch:weights", "@pip//:flax", "@pip//:jax", "@pip//:numpy", "@pip//:pytest", "@pip//:torch"],
}
