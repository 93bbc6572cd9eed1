"""What each Python source of this folder imports; `./bazelw run //infra/lint -- --fix` writes it."""

DEPS = {
    "app.py": [":collecting", ":comparing", ":listing", ":moving", ":publishing", ":showing", ":stages", "//base:program", "//registry:errors", "@pip//:typer"],
    "collecting.py": [":options", ":output", "//registry:access", "@pip//:rich", "@pip//:typer"],
    "commands_test.py": [":app", "//registry:artifact", "//registry:evaluation_example", "//registry:evaluations", "//registry:example", "//registry/store:store", "//registry/trust:trust", "//registry/trust:verification", "@pip//:pytest", "@pip//:typer"],
    "comparing.py": [":evaluations", ":options", ":output", "//base:files", "//base:program", "//registry:access", "//registry:errors", "//registry:evaluations", "//registry/comparison:comparison", "//registry/comparison:page", "//registry/comparison:sides", "//registry/comparison:table", "@pip//:typer"],
    "evaluations.py": ["//base:text", "//proto/hpc/registry/v1:registry_py_proto", "//registry:access", "//registry:errors", "//registry:evaluations", "//registry/comparison:choice"],
    "listing.py": [":options", ":output", "//proto/hpc/artifact/v1:artifact_py_proto", "//proto/hpc/registry/v1:registry_py_proto", "//registry:access", "//registry:errors", "//registry/store:store", "@pip//:rich", "@pip//:typer"],
    "moving.py": [":options", ":output", "//base:program", "//registry:access", "//registry:errors", "//registry/oci:exporting", "//registry/oci:importing", "@pip//:rich", "@pip//:typer"],
    "options.py": ["@pip//:typer"],
    "output.py": ["//base:output", "//base:program", "//base:text", "@pip//:protobuf", "@pip//:rich"],
    "publishing.py": [":options", ":output", "//base:program", "//base:text", "//registry:access", "//registry:artifact", "//registry:descriptor", "//registry:errors", "//registry:evaluations", "//registry/programs:probe", "//registry/programs:program", "//registry/store:stages", "//registry/store:store", "//registry/trust:signing", "@pip//:rich", "@pip//:typer"],
    "showing.py": [":options", ":output", "//base:text", "//proto/hpc/artifact/v1:artifact_py_proto", "//registry:access", "//registry:artifact", "@pip//:rich"],
    "showing_test.py": [":app", "//registry:artifact", "//registry:example", "@pip//:pytest", "@pip//:typer"],
    "stages.py": [":evaluations", ":options", ":output", "//base:program", "//base:text", "//proto/hpc/registry/v1:registry_py_proto", "//registry:access", "//registry:errors", "//registry/comparison:gates", "//registry/comparison:gates_file", "//registry/comparison:judging", "//registry/store:aliases", "//registry/store:stages", "@pip//:rich", "@pip//:typer"],
}
