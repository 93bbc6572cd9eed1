"""What each Python source of this folder imports; `./bazelw run //infra/lint -- --fix` writes it."""

DEPS = {
    "byte_model.py": ["//kernels/attention:rope", "//kernels/attention:torch_op", "@pip//:torch"],
    "byte_model_test.py": [":training", "@pip//:torch"],
    "comparison.py": ["@pip//:numpy", "@pip//:scipy"],
    "comparison_test.py": [":training", "@pip//:numpy", "@pip//:pytest", "@pip//:scipy"],
    "digits_cnn.py": ["//data:digits", "@pip//:torch"],
    "digits_cnn_test.py": [":training", "@pip//:torch"],
    "tasks.py": [
        "//base:seeds",
        "//benchmarks/harness:harness",
        "//data:digits",
        "//data:stdlib_text",
        "//models:weights",
        "//models/torch:weights",
        "//optim:adamw",
        "//optim:schedule",
        "//train:config",
        "//train:recipe",
        "@pip//:numpy",
        "@pip//:torch",
    ],
}
