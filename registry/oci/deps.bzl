"""What each Python source of this folder imports; `./bazelw run //infra/lint -- --fix` writes it."""

DEPS = {
    "blobs.py": [":documents", ":streams", ":tar"],
    "documents.py": [":media_types", "//base:config", "//registry:contents", "//registry:descriptor", "//registry:errors", "@pip//:pydantic"],
    "example_layout.py": ["//registry:artifact", "//registry:example"],
    "exporting.py": [":blobs", ":documents", ":media_types", ":parameters", "//base:files", "//proto/hpc/artifact/v1:artifact_py_proto", "//registry:artifact", "//registry:contents", "//registry:descriptor", "//registry:errors", "//registry:payload"],
    "exporting_test.py": [":documents", ":example_layout", ":exporting", ":parameters", "//registry:artifact", "//registry:errors", "//registry:example", "@pip//:jsonschema", "@pip//:numpy", "@pip//:pytest"],
    "hostile_layers_test.py": [":documents", ":example_layout", ":importing", "@pip//:pytest"],
    "importing.py": [":blobs", ":documents", ":layers", ":manifests", ":streams", "//base:files", "//proto/hpc/artifact/v1:artifact_py_proto", "//registry:artifact", "//registry:contents", "//registry:descriptor", "//registry:errors", "@pip//:protobuf"],
    "importing_test.py": [":documents", ":example_layout", ":exporting", ":importing", "//registry:artifact", "//registry:errors", "//registry:example", "@pip//:numpy", "@pip//:pytest"],
    "layers.py": [":blobs", ":documents", ":manifests", ":streams", ":tar"],
    "manifests.py": [":blobs", ":documents", ":media_types", "//base:config"],
    "manifests_test.py": [":documents", ":example_layout", ":exporting", ":importing", "@pip//:pytest"],
    "parameters.py": ["//proto/hpc/artifact/v1:artifact_py_proto", "//registry:payload", "//registry:weights"],
    "streams.py": [":documents"],
    "tar.py": [":documents", ":streams"],
    "tar_test.py": [":documents", ":example_layout", ":streams", ":tar", "@pip//:hypothesis", "@pip//:pytest"],
}
