"""What each Python source of this folder imports; `./bazelw run //infra/lint -- --fix` writes it."""

DEPS = {
    "affine.py": ["@pip//:numpy"],
    "affine_test.py": [":affine", "@pip//:numpy", "@pip//:pytest", "@pip//:scipy"],
    "chain.py": [":affine", ":config", ":crop", ":cutout", ":flip", ":light", ":noise", "//data:loader", "@pip//:numpy"],
    "chain_test.py": [":chain", ":config", ":crop", ":cutout", ":flip", ":light", ":noise", "//base:seeds", "@pip//:numpy", "@pip//:pytest"],
    "config.py": ["//base:config", "@pip//:pydantic"],
    "crop.py": ["@pip//:numpy"],
    "cutout.py": ["@pip//:numpy"],
    "flip.py": ["@pip//:numpy"],
    "light.py": ["@pip//:numpy"],
    "noise.py": ["@pip//:numpy"],
}
