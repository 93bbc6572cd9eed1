"""What each Python source of this folder imports; `./bazelw run //infra/lint -- --fix` writes it."""

DEPS = {
    "identities.py": ["@pip//:cryptography"],
}
