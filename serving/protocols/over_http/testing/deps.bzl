"""What each Python source of this folder imports; `./bazelw run //infra/lint -- --fix` writes it."""

DEPS = {
    "malformed.py": ["//serving/core:signature", "@pip//:numpy"],
    "malformed_bodies.py": [":malformed", "@pip//:numpy"],
    "malformed_http.py": [":malformed"],
    "running.py": ["//serving/core:channel", "//serving/core:model", "//serving/core:model_control", "//serving/protocols/over_http:config", "//serving/protocols/over_http:server", "//serving/replicas:compute", "//serving/testing:local_engine", "//serving/testing:local_replica", "//serving/testing:served_models", "@pip//:uvloop"],
}
