"""What each Python source of this folder imports; `./bazelw run //infra/lint -- --fix` writes it."""

DEPS = {
    "agreement_test.py": [":compression", "//comm/jax:collectives", "//comm/testing:ranks", "//comm/testing:virtual_devices", "//comm/torch:collectives", "//comm/torch:feedback", "//kernels/quantize:contract", "@pip//:jax", "@pip//:numpy", "@pip//:pytest", "@pip//:torch"],
    "compression.py": ["//kernels/quantize:contract"],
    "compression_test.py": [":compression", "//kernels/quantize:contract", "@pip//:hypothesis", "@pip//:pytest"],
    "ddp_example.py": [":compression", "//base:interrupts", "//base:options", "//comm/torch:ddp", "@pip//:scikit_learn", "@pip//:torch"],
    "ddp_example_test.py": [":ddp_example", "@pip//:pytest"],
    "wire_test.py": [":wire", "@pip//:pytest"],
}
