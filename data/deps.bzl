"""What each Python source of this folder imports; `./bazelw run //infra/lint -- --fix` writes it."""

DEPS = {
    "augment.py": ["@pip//:numpy"],
    "augment_test.py": [":augment", "@pip//:numpy", "@pip//:pytest", "@pip//:scipy"],
    "digits.py": ["@pip//:numpy", "@pip//:scikit_learn"],
    "digits_test.py": [":digits", "@pip//:numpy", "@pip//:scikit_learn"],
    "loader.py": ["//base:seeds", "@pip//:numpy"],
    "loader_test.py": [":loader", "@pip//:hypothesis", "@pip//:numpy", "@pip//:pytest"],
    "stdlib_text.py": ["//base:seeds", "@pip//:numpy"],
    "stdlib_text_test.py": [":stdlib_text", "@pip//:numpy", "@pip//:pytest"],
}
