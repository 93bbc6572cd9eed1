"""What each Python source of this folder imports; `./bazelw run //infra/lint -- --fix` writes it."""

DEPS = {
    "architecture.py": [":network", "//base:config", "//models/cnn:network", "//models/mlp:network", "@pip//:pydantic"],
    "export_test.py": [":architecture", "//models/flax:export", "//models/mlp:cases", "//models/torch:export", "@pip//:jax", "@pip//:pytest"],
    "initializers.py": ["@pip//:numpy"],
    "network.py": [":initializers", "//base:config", "@pip//:flax", "@pip//:numpy", "@pip//:torch"],
    "predict_test.py": [":architecture", "//models/flax:predict", "//models/testing:parity", "//models/torch:predict", "@pip//:jax", "@pip//:numpy", "@pip//:pytest"],
    "weights.py": [":architecture", ":initializers", "//base:seeds", "@pip//:numpy"],
    "weights_test.py": [":architecture", ":initializers", ":network", ":weights", "//models/flax:weights", "//models/torch:weights", "@pip//:flax", "@pip//:jax", "@pip//:numpy", "@pip//:pytest", "@pip//:torch"],
}
