"""What each Python source of this folder imports; `./bazelw run //infra/lint -- --fix` writes it."""

DEPS = {
    "ranks.py": ["@pip//:torch"],
    "ranks_test.py": [":ranks", "@pip//:pytest", "@pip//:torch"],
    "simulation.py": ["//comm:compression", "//kernels/quantize:contract", "//kernels/quantize:reference", "@pip//:numpy"],
    "virtual_devices.py": ["@pip//:jax"],
    "zero_engines.py": [":ranks", "//comm:compression", "//comm/torch:zero", "@pip//:deepspeed", "@pip//:numpy", "@pip//:torch"],
    "zero_simulation.py": ["//comm:compression", "//kernels/quantize:contract", "//kernels/quantize:reference", "@pip//:numpy", "@pip//:torch"],
}
