"""`torch_extension`: a Python module in C++ that includes PyTorch's headers.

    torch_extension(
        name = "deepspeed_ops",
        src = "deepspeed_ops.cc",
        copied = ["deepspeed/ops/csrc"],
        linkopts = ["-laio"],
    )

makes `deepspeed_ops.so`, compiled against the torch of the lock; it finds torch's libraries where the process that imports
it has loaded them. The source may include headers and sources that wheels bring in the folders `copied`, which begin there.

One source and one action: most of the time goes into torch's headers, which are read once so.
"""

load("//infra/bazel:cpp_compiler.bzl", "cpp_compiler")

# Headers that wheels bring may lack guards, as each source of theirs includes them once.
_COMMAND = """
set -eu
compiler="$1" packages="$2" source="$3" output="$4" && shift 4
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
includes=(-I "$packages/torch/include" -I "$packages/torch/include/torch/csrc/api/include")
while [ "$1" != -- ]; do
  cp -rL "$packages/$1/." "$folder" && shift
done
shift
find "$folder" -name '*.h' -exec sed -i '1i #pragma once' {} +
while read -r inner; do includes+=(-I "$inner"); done < <(find "$folder" -type d | sort)
"$compiler" -shared -fPIC -O1 -std=c++20 -w -fopenmp "-ffile-prefix-map=$folder=." "${includes[@]}" "$source" -o "$output" \
  -L "$packages/torch/lib" -ltorch_python -ltorch_cpu -lc10 "$@"
"""

def _torch_extension_impl(ctx):
    compiler = cpp_compiler(ctx)
    python = ctx.attr._python[CcInfo].compilation_context
    output = ctx.actions.declare_file(ctx.label.name + ".so")
    arguments = ctx.actions.args()
    arguments.add_all([compiler.path, ctx.file._packages.path, ctx.file.src, output])
    arguments.add_all(ctx.attr.copied)
    arguments.add("--")
    arguments.add_all(python.system_includes, before_each = "-isystem")
    arguments.add_all(python.includes, before_each = "-I")
    arguments.add_all(ctx.attr.linkopts)
    ctx.actions.run_shell(
        command = _COMMAND,
        arguments = [arguments],
        inputs = depset([ctx.file.src, ctx.file._packages], transitive = [python.headers, compiler.toolchain.all_files]),
        outputs = [output],
        mnemonic = "TorchExtension",
        progress_message = "Compiling %s against torch" % ctx.file.src.short_path,
        use_default_shell_env = True,
    )
    return [DefaultInfo(files = depset([output]), runfiles = ctx.runfiles(files = [output]))]

torch_extension = rule(
    implementation = _torch_extension_impl,
    attrs = {
        "copied": attr.string_list(doc = "Folders of site-packages whose sources src includes."),
        "linkopts": attr.string_list(doc = "Libraries besides torch's."),
        "src": attr.label(doc = "The C++ source.", allow_single_file = [".cc"], mandatory = True),
        "_cc_toolchain": attr.label(default = "@bazel_tools//tools/cpp:current_cc_toolchain"),
        "_packages": attr.label(default = "@pip//:site-packages", allow_single_file = True),
        "_python": attr.label(default = "@python//:headers", providers = [CcInfo]),
    },
    doc = "Compiles an extension of torch; see the file's docstring.",
    fragments = ["cpp"],
    toolchains = ["@bazel_tools//tools/cpp:toolchain_type"],
)
