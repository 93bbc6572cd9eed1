"""What each Python source of this folder imports; `./bazelw run //infra/lint -- --fix` writes it."""

DEPS = {
    "quickstart.py": [
        "//base:interrupts",
        "//base:program",
        "//data:digits",
        "//registry:artifact",
        "//serving:client",
        "//train:cli",
        "//train:config",
        "//train:flax",
        "//train:meter",
        "//train:preflight",
        "//train:progress",
        "//train:publication",
        "//train:torch",
        "@pip//:numpy",
        "@pip//:rich",
        "@pip//:typer",
    ],
    "quickstart_main.py": ["//base:interrupts", "@pip//:typer"],
}
