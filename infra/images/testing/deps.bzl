"""What each Python source of this folder imports; `./bazelw run //infra/lint -- --fix` writes it."""

DEPS = {
    "podman.py": ["//infra/bazel/oci:bundle", "@pip//:pytest"],
    "podman_test.py": [":podman", "//serving/testing:gateway_process", "@pip//:pytest"],
}
