"""What each Python source of this folder imports; `./bazelw run //infra/lint -- --fix` writes it."""

DEPS = {
    "app.py": [":infer", ":load", ":states", "//base:program", "//serving/client:errors", "@pip//:typer"],
    "documents.py": ["//serving/client:encoding", "//serving/core:signature", "//serving/protocols:elements", "@pip//:numpy"],
    "documents_test.py": [":documents", "@pip//:ml_dtypes", "@pip//:numpy", "@pip//:pytest"],
    "infer.py": [":documents", ":input_files", ":options", ":showing", "//registry/commands:output", "//serving/client:prediction", "//serving/client:sync", "@pip//:typer"],
    "infer_test.py": ["//proto/inference:grpc_service_py_proto", "//serving/client/testing:command_line", "//serving/client/testing:echo_server", "//serving/client/testing:scripted_server", "@pip//:ml_dtypes", "@pip//:numpy", "@pip//:pillow", "@pip//:pytest", "@pip//:typer"],
    "input_files.py": ["//base:program", "@pip//:numpy"],
    "load.py": [":infer", ":input_files", ":load_report", ":options", "//base:files", "//base:program", "//registry/commands:output", "//serving/client:aio", "//serving/client:arrivals", "//serving/client:encoding", "//serving/client:load", "//serving/client:outcomes", "//serving/client:retries", "//serving/client:samples", "//serving/client:sync", "@pip//:numpy", "@pip//:typer"],
    "load_command_test.py": ["//proto/inference:grpc_service_py_proto", "//serving/client/testing:command_line", "//serving/client/testing:echo_server", "//serving/client/testing:scripted_server", "@pip//:grpcio", "@pip//:numpy", "@pip//:pytest", "@pip//:typer"],
    "load_report.py": ["//base:provenance", "//base:text", "//registry/commands:output", "//serving/client:load", "@pip//:rich"],
    "options.py": ["@pip//:typer"],
    "showing.py": ["//base:files", "//base:program", "//base:text", "//registry/commands:output", "//serving/client:results", "//serving/core:signature", "//serving/protocols:elements", "@pip//:numpy", "@pip//:rich"],
    "states.py": [":options", "//base:program", "//base:text", "//registry/commands:output", "//serving/client:errors", "//serving/client:sync", "@pip//:grpcio", "@pip//:rich", "@pip//:typer"],
    "states_test.py": ["//proto/inference:grpc_service_py_proto", "//serving/client/testing:command_line", "//serving/client/testing:echo_server", "//serving/client/testing:scripted_server", "@pip//:grpcio", "@pip//:pytest"],
}
