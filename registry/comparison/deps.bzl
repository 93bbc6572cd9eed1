"""What each Python source of this folder imports; `./bazelw run //infra/lint -- --fix` writes it."""

DEPS = {
    "changes.py": ["//proto/hpc/artifact/v1:artifact_py_proto"],
    "choice.py": [":metrics", "//registry:evaluations"],
    "comparison.py": [":changes", ":metrics", ":sides", ":speeds", "//proto/hpc/registry/v1:registry_py_proto"],
    "gates.py": [":speeds", "//registry:errors"],
    "gates_file.py": [":gates", "@pip//:pyyaml"],
    "intervals.py": ["@pip//:numpy"],
    "intervals_test.py": [":intervals", "@pip//:numpy", "@pip//:pytest"],
    "judging.py": [":gates", ":metrics", ":speeds", "//proto/hpc/registry/v1:registry_py_proto", "//registry:evaluations"],
    "metrics.py": [":intervals", ":paired_tests", ":sides", "//registry:evaluations", "@pip//:numpy"],
    "paired_tests.py": ["@pip//:numpy", "@pip//:scipy"],
    "paired_tests_test.py": [":paired_tests", "@pip//:numpy", "@pip//:pytest"],
    "sides.py": ["//proto/hpc/artifact/v1:artifact_py_proto", "//registry:artifact", "//registry:errors", "//registry:evaluations"],
    "speeds.py": ["//registry:evaluations"],
    "table.py": [":changes", ":comparison", ":metrics", ":speeds", ":wording", "//base:text", "@pip//:rich"],
    "wording.py": [":intervals", ":metrics", ":paired_tests", ":speeds", "//base:text"],
}
