"""What each Python source of this folder imports; `./bazelw run //infra/lint -- --fix` writes it."""

DEPS = {
    "publish.py": ["//base:interrupts", "//infra/bazel/oci:bundle", "//infra/bazel/oci:push_module"],
    "release.py": [":publish", "//base:files", "//base:interrupts", "//base:program", "//infra/bazel/oci:bundle", "//infra/bazel/oci:push_module", "//registry:descriptor", "//registry:errors", "//registry/trust:signing", "@pip//:cryptography"],
    "release_test.py": [":publish", ":release_module", "//infra/bazel/oci:archive", "//infra/bazel/oci:layout_module", "//infra/bazel/oci:parts", "//infra/bazel/oci:push_module", "//infra/bazel/oci:sbom", "//infra/images/testing:podman", "//registry/trust:signing", "@pip//:pytest"],
}
