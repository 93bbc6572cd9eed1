"""`cuda_library`: CUDA C++ compiled by the CUDA 13.0 of infra/python/cuda.lock; no GPU and no CUDA install are needed.

    cuda_library(
        name = "saxpy",
        srcs = ["saxpy.cu"],
        hdrs = ["saxpy.h"],
    )

It is used like a `cc_library`: put it in the `deps` of a `pybind_extension`, an `xla_ffi_library` or another `cc_library`.
Each source is compiled on its own (no relocatable device code) into code for every architecture in `archs`.
"""

load("//infra/bazel:cpp_compiler.bzl", "cpp_compiler")

_TOOLKIT = "nvidia/cu13"

def _compile(ctx, src, toolkit, compiler, headers):
    output = ctx.actions.declare_file("_objs/%s/%s.o" % (ctx.label.name, src.basename))
    arguments = ctx.actions.args()
    arguments.add_all(["-c", src, "-o", output])
    arguments.add_all(["-std=c++17", "-O3", "--compiler-options=-fPIC", "--compiler-bindir", compiler])
    for arch in ctx.attr.archs:
        arguments.add("--generate-code=arch=compute_%s,code=sm_%s" % (arch, arch))
    arguments.add_all(depset(transitive = [headers.includes, headers.quote_includes]), before_each = "-I")
    arguments.add_all(headers.system_includes, before_each = "-isystem")
    arguments.add_all(ctx.attr.copts)
    ctx.actions.run(
        executable = toolkit.path + "/%s/bin/nvcc" % _TOOLKIT,
        arguments = [arguments],
        inputs = depset([src, toolkit], transitive = [headers.headers]),
        outputs = [output],
        mnemonic = "CudaCompile",
        progress_message = "Compiling %s for sm_%s" % (src.short_path, ", sm_".join(ctx.attr.archs)),
        use_default_shell_env = True,
    )
    return output

def _cuda_library_impl(ctx):
    compiler = cpp_compiler(ctx)
    below = cc_common.merge_cc_infos(cc_infos = [
        CcInfo(compilation_context = cc_common.create_compilation_context(
            headers = depset(ctx.files.hdrs),
            quote_includes = depset([".", ctx.bin_dir.path]),
        )),
    ] + [dep[CcInfo] for dep in ctx.attr.deps + [ctx.attr._cudart]])
    objects = depset([
        _compile(ctx, src, ctx.file._toolkit, compiler.path, below.compilation_context)
        for src in ctx.files.srcs
    ])
    linking, _ = cc_common.create_linking_context_from_compilation_outputs(
        actions = ctx.actions,
        name = ctx.label.name,
        feature_configuration = compiler.features,
        cc_toolchain = compiler.toolchain,
        compilation_outputs = cc_common.create_compilation_outputs(objects = objects, pic_objects = objects),
        linking_contexts = [below.linking_context],
        disallow_dynamic_library = True,
        alwayslink = True,
    )
    return [
        DefaultInfo(files = objects),
        CcInfo(compilation_context = below.compilation_context, linking_context = linking),
    ]

cuda_library = rule(
    implementation = _cuda_library_impl,
    attrs = {
        "archs": attr.string_list(
            doc = "Compute capabilities to compile for; a trailing `a` admits instructions of that generation alone.",
            default = ["80", "90a", "100a"],
        ),
        "copts": attr.string_list(doc = "More options for nvcc."),
        "deps": attr.label_list(doc = "Libraries whose headers the sources include.", providers = [CcInfo]),
        "hdrs": attr.label_list(doc = "Headers for those who depend on this.", allow_files = [".h", ".cuh"]),
        "srcs": attr.label_list(doc = "CUDA sources.", allow_files = [".cu"], mandatory = True),
        "_cc_toolchain": attr.label(default = "@bazel_tools//tools/cpp:current_cc_toolchain"),
        "_cudart": attr.label(default = "@pip_cuda//:cudart", providers = [CcInfo]),
        "_toolkit": attr.label(default = "@pip_cuda//:site-packages", allow_single_file = True),
    },
    doc = "Compiles CUDA C++; see the file's docstring.",
    fragments = ["cpp"],
    provides = [CcInfo],
    toolchains = ["@bazel_tools//tools/cpp:toolchain_type"],
)
