"""`py_proto_library`: Python for protocol buffers: messages, type stubs and, on demand, gRPC.

    py_proto_library(
        name = "artifact_py_proto",
        srcs = ["artifact.proto"],
    )

The `.proto` files lie below `//proto` by their package, and their Python is imported by that package: what is in
proto/hpc/artifact/v1/artifact.proto is `hpc.artifact.v1.artifact_pb2`. The generator is the one of the grpcio-tools wheel of
the lock, so that generated code and run time are of one version.
"""

load(":py_imports.bzl", "PyModulesInfo")

_ROOT = "proto/"

_ProtoFilesInfo = provider(
    doc = "The .proto files that others may import.",
    fields = {"files": "depset of File"},
)

def _generated(ctx, src):
    suffixes = ["_pb2.py", "_pb2.pyi"] + (["_pb2_grpc.py"] if ctx.attr.grpc else [])
    stem = src.basename[:-len(".proto")]
    return [ctx.actions.declare_file(stem + suffix, sibling = src) for suffix in suffixes]

def _py_proto_library_impl(ctx):
    outputs = [output for src in ctx.files.srcs for output in _generated(ctx, src)]
    for src in ctx.files.srcs:
        if not src.short_path.startswith(_ROOT):
            fail("%s must lie below %s, where its package is its path" % (src.short_path, _ROOT))
    protos = depset(ctx.files.srcs, transitive = [dep[_ProtoFilesInfo].files for dep in ctx.attr.deps])
    root = ctx.bin_dir.path + "/" + _ROOT
    arguments = ctx.actions.args()
    arguments.add("--proto_path=" + _ROOT)
    arguments.add("--python_out=" + root)
    arguments.add("--pyi_out=" + root)
    if ctx.attr.grpc:
        arguments.add("--grpc_python_out=" + root)
    arguments.add_all(ctx.files.srcs)
    ctx.actions.run(
        executable = ctx.executable._protoc,
        arguments = [arguments],
        inputs = protos,
        outputs = outputs,
        mnemonic = "PyProto",
        progress_message = "Generating Python for %s" % ctx.label,
    )

    runtime = ctx.attr._runtime + (ctx.attr._grpc_runtime if ctx.attr.grpc else [])
    below = [dep[PyInfo] for dep in ctx.attr.deps + runtime]
    sources = [output for output in outputs if output.extension == "py"]
    return [
        DefaultInfo(
            files = depset(outputs),
            runfiles = ctx.runfiles(files = outputs).merge(_runfiles(ctx.attr.deps + runtime)),
        ),
        PyInfo(
            transitive_sources = depset(sources, transitive = [info.transitive_sources for info in below]),
            imports = depset(
                ["%s/%s" % (ctx.workspace_name, _ROOT[:-1])],
                transitive = [info.imports for info in below],
            ),
        ),
        PyModulesInfo(
            distribution = None,
            modules = [source.short_path[len(_ROOT):-len(".py")].replace("/", ".") for source in sources],
        ),
        _ProtoFilesInfo(files = protos),
    ]

def _runfiles(targets):
    runfiles = targets[0][DefaultInfo].default_runfiles
    for target in targets[1:]:
        runfiles = runfiles.merge(target[DefaultInfo].default_runfiles)
    return runfiles

py_proto_library = rule(
    implementation = _py_proto_library_impl,
    attrs = {
        "deps": attr.label_list(
            doc = "py_proto_library targets whose files these import.",
            providers = [_ProtoFilesInfo],
        ),
        "grpc": attr.bool(doc = "Whether to generate servicers and stubs too."),
        "srcs": attr.label_list(doc = "The .proto files.", allow_files = [".proto"], mandatory = True),
        "_grpc_runtime": attr.label_list(default = ["@pip//:grpcio"]),
        "_protoc": attr.label(default = "//infra/bazel:protoc", executable = True, cfg = "exec"),
        "_runtime": attr.label_list(default = ["@pip//:protobuf"]),
    },
    doc = "Generates Python from protocol buffers; see the file's docstring.",
    provides = [PyInfo, PyModulesInfo],
)
