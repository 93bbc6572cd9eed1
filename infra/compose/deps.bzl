"""What each Python source of this folder imports; `./bazelw run //infra/lint -- --fix` writes it."""

DEPS = {
    "compose_test.py": [":upgrade_module", "//infra/compose/testing:callers", "//infra/images/testing:podman", "//registry:artifact", "//registry/store:store", "//serving:predictor", "//serving/client:sync", "//serving/testing:gateway_process", "@pip//:numpy", "@pip//:pillow", "@pip//:pytest"],
}
