"""What each Python source of this folder imports; `./bazelw run //infra/lint -- --fix` writes it."""

DEPS = {
    "torch_network.py": ["@pip//:torch"],
    "torch_network_test.py": [":torch_network", "@pip//:torch"],
}
