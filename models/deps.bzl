"""What each Python source of this folder imports; `./bazelw run //infra/lint -- --fix` writes it."""

DEPS = {
    "config.py": ["//base:config", "@pip//:pydantic"],
    "config_test.py": [":config", "@pip//:pydantic", "@pip//:pytest"],
    "parity_test.py": [
        ":config",
        ":weights",
        "//models/flax:predict",
        "//models/flax:weights",
        "//models/torch:predict",
        "//models/torch:vit",
        "//models/torch:weights",
        "@pip//:flax",
        "@pip//:jax",
        "@pip//:numpy",
        "@pip//:optax",
        "@pip//:pytest",
        "@pip//:torch",
    ],
    "weights.py": [":config", "//base:seeds", "@pip//:numpy"],
    "weights_test.py": [
        ":config",
        ":weights",
        "//models/flax:weights",
        "//models/torch:weights",
        "@pip//:jax",
        "@pip//:numpy",
        "@pip//:pytest",
    ],
}
