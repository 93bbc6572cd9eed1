"""What each Python source of this folder imports; `./bazelw run //infra/lint -- --fix` writes it."""

DEPS = {
    "config.py": ["//base:config", "@pip//:pydantic"],
    "torch_network.py": [":config", "//kernels/attention:rope", "//kernels/attention:torch_op", "@pip//:torch"],
    "torch_network_test.py": [":config", ":torch_network", "@pip//:pytest", "@pip//:torch"],
}
