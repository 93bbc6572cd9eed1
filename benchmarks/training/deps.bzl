"""What each Python source of this folder imports; `./bazelw run //infra/lint -- --fix` writes it."""

DEPS = {
    "byte_model.py": ["//kernels/attention:rope", "//kernels/attention:torch_op", "@pip//:torch"],
    "byte_model_test.py": [":training", "@pip//:torch"],
    "comparison.py": ["@pip//:numpy", "@pip//:scipy"],
    "comparison_test.py": [":training", "@pip//:numpy", "@pip//:pytest", "@pip//:scipy"],
    "digits_cnn.py": ["//data/sources:digits", "@pip//:torch"],
    "digits_cnn_test.py": [":training", "@pip//:torch"],
    "tasks.py": [
        "//base:seeds",
        "//benchmarks/harness:harness",
        "//data/sources:digits",
        "//data/sources:stdlib_text",
        "//models:weights",
        "//models/torch:weights",
        "//optim:adamw",
        "//optim:schedule",
        "//train:recipe",
        "//train/config:load",
        "//train/config:schema",
        "//train/tasks/classification:task",
        "@pip//:numpy",
        "@pip//:torch",
    ],
}
