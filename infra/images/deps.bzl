"""What each Python source of this folder imports; `./bazelw run //infra/lint -- --fix` writes it."""

DEPS = {
    "contents_test.py": ["//infra/images/testing:layouts", "@pip//:pytest"],
    "dockerfile_nightly_test.py": ["//infra/images/testing:podman", "@pip//:pytest"],
    "dockerfile_test.py": ["@pip//:pytest"],
    "gpu_contents_test.py": ["//infra/images/testing:elf", "//infra/images/testing:layouts", "@pip//:pytest"],
    "lock.py": ["//base:files", "//base:interrupts", "//infra/bazel:debian_packages"],
    "reproducible_test.py": ["//infra/bazel/oci:archive", "//infra/bazel/oci:layers_module", "//infra/bazel/oci:layout_module", "@pip//:pytest"],
    "serving_test.py": ["//infra/images/testing:podman", "//registry:artifact", "//registry/store:store", "//serving:predictor", "//serving/client:errors", "//serving/client:retries", "//serving/client:sync", "//serving/testing:example", "//serving/testing:gateway_process", "@pip//:grpcio", "@pip//:numpy", "@pip//:pillow", "@pip//:pytest"],
    "sizes.py": ["//base:interrupts"],
    "train_test.py": [":train_main_module", "//infra/images/testing:podman", "//registry:artifact", "@pip//:pytest"],
}
