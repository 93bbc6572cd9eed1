"""`triton_kernels`: Triton kernels compiled ahead of time; no GPU is needed.

    load("//infra/bazel:triton_kernels.bzl", "GPU_ARCHS", "triton_kernels")

    triton_kernels(
        name = "triton_cubins",
        src = "triton_kernels.py",
        archs = GPU_ARCHS,
        deps = [":triton_kernels"],
    )

A build compiles for one architecture, sm_90, since a compilation takes longer than all tests of what it makes;
`--define=gpu_archs=all`, which --config=cuda and --config=nightly set, makes `GPU_ARCHS` sm_80, sm_90 and sm_100. With `sample`
it compiles only what the source lists in SAMPLE: enough for tests to look at, not for a GPU to run.

The source is a module that imports Triton and files of its own and lists what to compile in `VARIANTS`; triton_compile.py
has the form. The output is a folder of the target's name with one `VARIANT.sm_ARCH.cubin` each and `metadata.json`, which tells a launcher
the symbol, the parameters, the warps, the shared memory, and tells a reader the registers and spills.
"""

GPU_ARCHS = select({
    "//infra/bazel:all_gpu_archs": ["80", "90", "100"],
    "//conditions:default": ["90"],
})

# For a test of what was compiled: the same as an environment variable, HPC_GPU_ARCHS.
GPU_ARCHS_ENV = select({
    "//infra/bazel:all_gpu_archs": {"HPC_GPU_ARCHS": "80 90 100"},
    "//conditions:default": {"HPC_GPU_ARCHS": "90"},
})

def _triton_kernels_impl(ctx):
    folder = ctx.actions.declare_directory(ctx.label.name)
    arguments = ctx.actions.args()
    arguments.add("--src", ctx.file.src)
    arguments.add_all(ctx.attr.archs, before_each = "--arch")
    if ctx.attr.sample:
        arguments.add("--sample")
    arguments.add_all("--out", [folder], expand_directories = False)
    ctx.actions.run(
        executable = ctx.executable._compiler,
        arguments = [arguments],
        inputs = depset([ctx.file.src], transitive = [dep[PyInfo].transitive_sources for dep in ctx.attr.deps]),
        outputs = [folder],
        mnemonic = "TritonCompile",
        progress_message = "Compiling Triton kernels of %s" % ctx.file.src.short_path,
        use_default_shell_env = True,
    )
    return [DefaultInfo(
        files = depset([folder]),
        runfiles = ctx.runfiles(files = [folder]),
    )]

triton_kernels = rule(
    implementation = _triton_kernels_impl,
    attrs = {
        "archs": attr.string_list(
            doc = "Compute capabilities to compile for: GPU_ARCHS, unless there is a reason for others.",
            mandatory = True,
        ),
        "deps": attr.label_list(
            doc = "The library of src, with whose sources and those of its deps src is compiled.",
            providers = [PyInfo],
        ),
        "sample": attr.bool(
            doc = "Compile SAMPLE, where the source has it, and not all VARIANTS.",
        ),
        "src": attr.label(
            doc = "The module with the kernels and their VARIANTS.",
            allow_single_file = [".py"],
            mandatory = True,
        ),
        "_compiler": attr.label(
            default = "//infra/bazel:triton_compile",
            executable = True,
            cfg = "exec",
        ),
    },
    doc = "Compiles Triton kernels to cubins; see the file's docstring.",
)
