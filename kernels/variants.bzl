"""Which variants of the kernels for CUDA a build compiles."""

# `sample` of a triton_kernels target: all variants only where a GPU is to run them.
IS_SAMPLE = select({
    "//kernels:all_variants": False,
    "//conditions:default": True,
})
