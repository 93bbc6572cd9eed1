"""What each Python source of this folder imports; `./bazelw run //infra/lint -- --fix` writes it."""

DEPS = {
    "house.py": [":identities", "//registry:artifact", "//registry:example", "//registry/trust:signing", "//registry/trust:trust", "//registry/trust:verification"],
    "identities.py": ["@pip//:cryptography"],
}
