"""What each Python source of this folder imports; `./bazelw run //infra/lint -- --fix` writes it."""

DEPS = {
    "archive_test.py": [":archive", "@pip//:pytest"],
    "bytecode.py": [":archive", ":debian"],
    "bytecode_test.py": [":bytecode", "@pip//:pytest"],
    "debian.py": [":archive"],
    "debian_test.py": [":archive", ":debian", "@pip//:pytest"],
    "distributions.py": [":archive", "@pip//:packaging"],
    "distributions_test.py": [":distributions", "@pip//:pytest"],
    "layers.py": [":archive", ":bytecode", ":debian", ":distributions", ":parts"],
    "layers_test.py": [":layers_module"],
    "layout.py": [":parts", ":sbom"],
    "layout_test.py": [":archive", ":bundle", ":layout_module", ":parts", ":sbom", "@pip//:pytest"],
    "load.py": [":bundle", "//base:interrupts"],
    "push.py": ["//base:interrupts"],
    "sbom.py": [":parts"],
    "unpack.py": ["//base:files", "//base:interrupts"],
    "unpack_test.py": [":archive", ":layout_module", ":unpack_module", "@pip//:pytest"],
}
