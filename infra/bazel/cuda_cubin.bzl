"""`cuda_cubin`: CUDA C++ kernels compiled ahead of time by the CUDA 13.0 of infra/python/cuda.lock; no GPU is needed.

    cuda_cubin(
        name = "cuda_cubins",
        src = "cuda.cu",
        archs = ["90a"],
        deps = [":sm90_device"],
    )

The kernels of a `cuda_library` start by the CUDA runtime, which it links; those of a `cuda_cubin` are loaded from a file by
kernels/native/cuda_launch.h, as Triton's are. cuda_cubin.py has what a source must look like. The output is a folder of
the target's name with one `STEM.sm_ARCH.cubin` each and `metadata.json`, in the form of `triton_kernels`.
"""

load("//infra/bazel:cpp_compiler.bzl", "cpp_compiler")

_TOOLKIT = "nvidia/cu13"

def _cuda_cubin_impl(ctx):
    compiler = cpp_compiler(ctx)
    headers = cc_common.merge_cc_infos(cc_infos = [
        dep[CcInfo]
        for dep in ctx.attr.deps + [ctx.attr._cudart]
    ]).compilation_context
    folder = ctx.actions.declare_directory(ctx.label.name)
    arguments = ctx.actions.args()
    arguments.add("--src", ctx.file.src)
    arguments.add_all(ctx.attr.archs, before_each = "--arch")
    arguments.add("--nvcc", ctx.file._toolkit.path + "/%s/bin/nvcc" % _TOOLKIT)
    arguments.add_all(ctx.attr.defines, format_each = "--option=-D%s")
    arguments.add(compiler.path, format = "--option=--compiler-bindir=%s")
    arguments.add_all(
        depset([".", ctx.bin_dir.path], transitive = [headers.includes, headers.quote_includes]),
        format_each = "--option=-I%s",
    )
    arguments.add_all(headers.system_includes, format_each = "--option=-isystem=%s")
    arguments.add_all("--out", [folder], expand_directories = False)
    ctx.actions.run(
        executable = ctx.executable._compiler,
        arguments = [arguments],
        inputs = depset([ctx.file.src, ctx.file._toolkit], transitive = [headers.headers]),
        outputs = [folder],
        mnemonic = "CudaCubin",
        progress_message = "Compiling %s for sm_%s" % (ctx.file.src.short_path, ", sm_".join(ctx.attr.archs)),
        use_default_shell_env = True,
    )
    return [DefaultInfo(
        files = depset([folder]),
        runfiles = ctx.runfiles(files = [folder]),
    )]

cuda_cubin = rule(
    implementation = _cuda_cubin_impl,
    attrs = {
        "archs": attr.string_list(
            doc = "Compute capabilities to compile for; a trailing `a` admits instructions of that generation alone.",
            mandatory = True,
        ),
        "defines": attr.string_list(doc = "Names to define for the preprocessor."),
        "deps": attr.label_list(doc = "Libraries whose headers the source includes.", providers = [CcInfo]),
        "src": attr.label(
            doc = "The CUDA source with the kernels.",
            allow_single_file = [".cu"],
            mandatory = True,
        ),
        "_cc_toolchain": attr.label(default = "@bazel_tools//tools/cpp:current_cc_toolchain"),
        "_compiler": attr.label(
            default = "//infra/bazel:cuda_cubin",
            executable = True,
            cfg = "exec",
        ),
        "_cudart": attr.label(default = "@pip_cuda//:cudart", providers = [CcInfo]),
        "_toolkit": attr.label(default = "@pip_cuda//:site-packages", allow_single_file = True),
    },
    doc = "Compiles CUDA C++ kernels to cubins; see the file's docstring.",
    fragments = ["cpp"],
    toolchains = ["@bazel_tools//tools/cpp:toolchain_type"],
)
