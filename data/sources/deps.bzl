"""What each Python source of this folder imports; `./bazelw run //infra/lint -- --fix` writes it."""

DEPS = {
    "compressed_text.py": [":stdlib_text", "@pip//:numpy"],
    "compressed_text_test.py": [":compressed_text", ":stdlib_text", "@pip//:numpy"],
    "digits.py": ["//base:config", "//data:dataset", "//data:stratified", "@pip//:numpy", "@pip//:scikit_learn"],
    "digits_test.py": [":digits", "//data:dataset", "@pip//:numpy", "@pip//:scikit_learn"],
    "drawn.py": ["//base:config", "//base:seeds", "@pip//:numpy", "@pip//:pydantic"],
    "mixture.py": [":drawn", "//data:dataset", "@pip//:numpy", "@pip//:pydantic"],
    "mixture_test.py": [":mixture", "@pip//:numpy", "@pip//:pydantic", "@pip//:pytest"],
    "mnist10k.py": ["//base:config", "//data:dataset", "//data:stratified", "@pip//:numpy"],
    "mnist10k_pack.py": ["@pip//:numpy"],
    "mnist10k_test.py": [":mnist10k", ":mnist10k_pack", "//data:dataset", "@pip//:numpy", "@pip//:pytest"],
    "recall.py": [":drawn", "//data:dataset", "@pip//:numpy", "@pip//:pydantic"],
    "recall_test.py": [":recall", "//data:dataset", "@pip//:numpy", "@pip//:pydantic", "@pip//:pytest"],
    "stdlib_text.py": ["//base:config", "//base:seeds", "//data:dataset", "@pip//:numpy", "@pip//:pydantic"],
    "stdlib_text_test.py": [":stdlib_text", "@pip//:numpy", "@pip//:pytest"],
    "waves.py": [":drawn", "//data:dataset", "@pip//:numpy", "@pip//:pydantic"],
    "waves_test.py": [":waves", "@pip//:numpy", "@pip//:pydantic", "@pip//:pytest"],
}
