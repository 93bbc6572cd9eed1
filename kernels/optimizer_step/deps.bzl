"""What each Python source of this folder imports; `./bazelw run //infra/lint -- --fix` writes it."""

DEPS = {
    "cases.py": [":contract", ":torch_op", "//kernels/quantize:torch_op", "//kernels/testing:arrays", "@pip//:numpy", "@pip//:torch"],
    "contract.py": ["//kernels:dispatch", "//kernels/quantize:contract"],
    "jax_op.py": [":_native", ":contract", "//kernels:cubin_loader", "//kernels:dispatch", "//kernels:jax_calls", "@pip//:jax", "@pip//:numpy"],
    "optimizer_step_gpu_test.py": [":cases", ":contract", ":jax_op", ":torch_op", "//kernels/testing:arrays", "@pip//:jax", "@pip//:numpy", "@pip//:pytest", "@pip//:torch"],
    "optimizer_step_jax_test.py": [":contract", ":jax_op", "//kernels:dispatch", "@pip//:jax", "@pip//:numpy", "@pip//:pytest"],
    "optimizer_step_triton_cubins_test.py": [":cases", ":contract", ":triton_kernels", "//kernels/quantize:triton_tiles", "//kernels/testing:cubins", "//kernels/testing:fake_driver", "@pip//:numpy", "@pip//:pytest"],
    "optimizer_step_triton_test.py": [":cases", ":contract", "//kernels:dispatch", "//kernels/testing:arrays", "@pip//:numpy", "@pip//:pytest"],
    "torch_op.py": [":_native", ":contract", ":triton_jit", "//kernels:cubin_loader", "//kernels:torch_tensors", "@pip//:numpy", "@pip//:torch"],
    "triton_jit.py": [":contract", ":triton_kernels", "//kernels/quantize:triton_tiles", "@pip//:torch", "@pip//:triton"],
    "triton_kernels.py": ["//kernels/quantize:triton_codes", "//kernels/quantize:triton_tiles", "@pip//:triton"],
}
