"""What each Python source of this folder imports; `./bazelw run //infra/lint -- --fix` writes it."""

DEPS = {
    "access.py": [":artifact", ":errors", ":evaluations", "//base:program", "//base:text", "//proto/hpc/registry/v1:registry_py_proto", "//registry/store:store", "//registry/trust:trust", "//registry/trust:verification"],
    "artifact.py": [":contents", ":descriptor", ":errors", ":payload", ":publishing", ":weights", "//proto/hpc/artifact/v1:artifact_py_proto", "@pip//:numpy", "@pip//:protobuf"],
    "artifact_test.py": [":artifact", ":example", "//proto/hpc/artifact/v1:artifact_py_proto", "@pip//:numpy", "@pip//:pytest", "@pip//:safetensors"],
    "contents.py": [":descriptor", ":errors", ":payload"],
    "descriptor.py": [":errors", "//proto/hpc/artifact/v1:artifact_py_proto"],
    "descriptor_test.py": [":descriptor", ":errors", ":example", "//proto/hpc/artifact/v1:artifact_py_proto", "@pip//:pytest"],
    "evaluation_example.py": [":evaluations", "//proto/hpc/registry/v1:registry_py_proto", "@pip//:numpy"],
    "evaluation_rules.py": [":descriptor", ":errors", "//proto/hpc/registry/v1:registry_py_proto"],
    "evaluations.py": [":contents", ":errors", ":evaluation_rules", ":payload", ":weights", "//base:files", "//proto/hpc/artifact/v1:artifact_py_proto", "//proto/hpc/registry/v1:registry_py_proto", "@pip//:numpy", "@pip//:protobuf"],
    "evaluations_test.py": [":errors", ":evaluation_example", ":evaluations", "//proto/hpc/registry/v1:registry_py_proto", "@pip//:numpy", "@pip//:pytest", "@pip//:safetensors"],
    "example.py": ["//proto/hpc/artifact/v1:artifact_py_proto", "@pip//:numpy"],
    "load_bench.py": [":artifact", "//base:interrupts", "//base:memory", "//base:options", "//proto/hpc/artifact/v1:artifact_py_proto", "@pip//:ml_dtypes", "@pip//:numpy"],
    "load_bench_test.py": [":load_bench", "@pip//:pytest"],
    "no_pickle_test.py": [":artifact", ":example", "//registry/trust:signing", "//registry/trust:trust", "//registry/trust:verification", "@pip//:cryptography", "@pip//:numpy", "@pip//:pytest"],
    "payload.py": [":errors", "//proto/hpc/artifact/v1:artifact_py_proto", "@pip//:numpy"],
    "publishing.py": [":descriptor", ":errors", ":payload", ":weights", "//base:files", "//proto/hpc/artifact/v1:artifact_py_proto", "@pip//:numpy"],
    "publishing_test.py": [":artifact", ":example", "@pip//:hypothesis", "@pip//:ml_dtypes", "@pip//:numpy", "@pip//:pytest"],
    "weights.py": [":errors", "@pip//:ml_dtypes", "@pip//:numpy"],
    "weights_test.py": [":errors", ":weights", "@pip//:hypothesis", "@pip//:ml_dtypes", "@pip//:numpy", "@pip//:pytest", "@pip//:safetensors"],
}
