"""What each Python source of this folder imports; `./bazelw run //infra/lint -- --fix` writes it."""

DEPS = {
    "arguments.py": ["@pip//:numpy"],
    "arguments_test.py": [":arguments", "//kernels/attention:jax_op", "//kernels/attention:rope", "//kernels/attention:torch_op", "//kernels/linear_attention:contract", "//kernels/linear_attention:jax_op", "//kernels/linear_attention:torch_op", "//kernels/quantize:contract", "//kernels/quantize:jax_op", "//kernels/quantize:torch_op", "@pip//:jax", "@pip//:numpy", "@pip//:pytest", "@pip//:torch"],
    "backend_choice_test.py": [":dispatch", "//kernels/attention:jax_op", "//kernels/attention:torch_op", "//kernels/linear_attention:jax_op", "//kernels/linear_attention:torch_op", "//kernels/optimizer_step:contract", "//kernels/optimizer_step:jax_op", "//kernels/optimizer_step:torch_op", "//kernels/quantize:jax_op", "//kernels/quantize:torch_op", "@pip//:jax", "@pip//:pytest", "@pip//:torch"],
    "benchmark_device.py": ["//base:options", "@pip//:torch"],
    "compile_test.py": ["//kernels/attention:rope", "//kernels/attention:torch_op", "//kernels/linear_attention:contract", "//kernels/linear_attention:torch_op", "//kernels/quantize:contract", "//kernels/quantize:torch_op", "@pip//:pytest", "@pip//:torch"],
    "dispatch_test.py": [":dispatch", "@pip//:pytest"],
    "explain_test.py": [":dispatch", ":explain", "//kernels/attention:jax_op", "//kernels/attention:torch_op", "//kernels/quantize:jax_op", "//kernels/quantize:torch_op", "@pip//:jax", "@pip//:pytest", "@pip//:torch"],
    "jax_arguments.py": [":arguments", "@pip//:jax", "@pip//:numpy"],
    "jax_calls.py": ["@pip//:jax", "@pip//:numpy"],
    "jax_derivatives.py": [":jax_calls", ":portable", "@pip//:jax"],
    "openmp_test.py": ["//kernels/testing:native_process"],
    "portable_test.py": [":portable", "//kernels/attention:jax_op", "//kernels/attention:rope", "//kernels/attention:torch_op", "//kernels/linear_attention:jax_op", "//kernels/linear_attention:torch_op", "@pip//:jax", "@pip//:numpy", "@pip//:pytest", "@pip//:torch"],
    "torch_arguments.py": [":arguments", "@pip//:torch"],
    "torch_derivatives.py": [":portable", "@pip//:torch"],
    "torch_tensors.py": ["@pip//:torch"],
}
