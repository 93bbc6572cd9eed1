"""What each Python source of this folder imports; `./bazelw run //infra/lint -- --fix` writes it."""

DEPS = {
    "arguments.py": [":errors", "@pip//:numpy"],
    "errors.py": ["//registry:errors"],
    "example.py": [":formats", ":probe", "//proto/hpc/artifact/v1:artifact_py_proto", "//registry:artifact", "//registry:example", "@pip//:jax", "@pip//:numpy", "@pip//:torch"],
    "formats.py": [":stablehlo_program", ":torch_program", "//proto/hpc/artifact/v1:artifact_py_proto"],
    "probe.py": [":errors", ":program", "//registry:artifact", "//registry:weights", "@pip//:numpy"],
    "program.py": [":errors", ":formats", ":signature", "//proto/hpc/artifact/v1:artifact_py_proto", "//registry:artifact", "@pip//:numpy"],
    "program_test.py": [":errors", ":example", ":formats", ":probe", ":program", "//registry:errors", "@pip//:numpy", "@pip//:pytest"],
    "signature.py": [":errors", "//proto/hpc/artifact/v1:artifact_py_proto", "@pip//:ml_dtypes", "@pip//:numpy"],
    "stablehlo_program.py": [":arguments", ":errors", "@pip//:jax", "@pip//:numpy"],
    "stablehlo_program_test.py": [":errors", ":example", ":stablehlo_program", "@pip//:jax", "@pip//:numpy", "@pip//:pytest"],
    "torch_archive.py": [":errors"],
    "torch_archive_test.py": [":errors", ":example", ":torch_archive", "@pip//:pytest", "@pip//:torch"],
    "torch_program.py": [":arguments", ":errors", ":torch_archive", "@pip//:ml_dtypes", "@pip//:numpy", "@pip//:torch"],
}
