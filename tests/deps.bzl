"""What each Python source of this folder imports; `./bazelw run //infra/lint -- --fix` writes it."""

DEPS = {
    "compression_convergence_test.py": [
        "//comm:compression",
        "//comm/testing:ranks",
        "//comm/torch:ddp",
        "//data:digits",
        "//data:loader",
        "//models:config",
        "//models:weights",
        "//models/torch:weights",
        "//optim:schedule",
        "@pip//:numpy",
        "@pip//:pytest",
        "@pip//:torch",
    ],
    "curvature_test.py": [
        "//models:config",
        "//models/flax:vit",
        "//models/torch:vit",
        "//optim/jax:curvature",
        "//optim/torch:curvature",
        "@pip//:flax",
        "@pip//:jax",
        "@pip//:numpy",
        "@pip//:optax",
        "@pip//:torch",
    ],
    "quickstart_test.py": ["//registry:artifact", "@pip//:numpy", "@pip//:pytest"],
}
