"""What each Python source of this folder imports; `./bazelw run //infra/lint -- --fix` writes it."""

DEPS = {
    "bench.py": [":examples", ":programs", ":quality", ":speed", ":speed_messages", "//base:provenance", "//proto/hpc/registry/v1:registry_py_proto", "//registry:artifact", "//registry:evaluations", "//train/config:schema"],
    "bench_test.py": [":bench", ":examples", ":programs", ":quality", ":speed", ":speed_messages", "//base:provenance", "//models:weights", "//models/torch:export", "//registry:artifact", "//registry:evaluations", "//registry/comparison:comparison", "//registry/comparison:gates", "//registry/comparison:judging", "//registry/comparison:sides", "//registry/programs:formats", "//registry/programs:probe", "//train/config:load", "//train/config:schema", "//train/testing:example", "@pip//:numpy", "@pip//:pytest"],
    "command.py": [":bench", ":examples", ":speed_messages", "//base:program", "//base:text", "//registry:access", "//registry:errors", "//registry:evaluations", "//registry/commands:options", "//registry/commands:output", "//registry/commands:publishing", "//registry/trust:signing", "//train/config:load", "//train/config:schema", "@pip//:rich", "@pip//:typer"],
    "examples.py": ["//base:config", "//data:dataset", "//models:network", "//proto/hpc/artifact/v1:artifact_py_proto", "//registry:artifact", "//registry/comparison:sides", "//serving:predictor", "//train/config:data", "//train/config:schema", "//train/tasks:table", "//train/tasks:task", "@pip//:numpy", "@pip//:pydantic"],
    "main_hpc.py": [":command", "//base:interrupts", "//registry/commands:app"],
    "programs.py": ["//models:network", "//proto/hpc/artifact/v1:artifact_py_proto", "//registry:artifact", "//registry/programs:program", "//serving:predictor", "@pip//:jax", "@pip//:torch"],
    "quality.py": [":examples", "//data:dataset", "//models:network", "//train:evaluation", "//train/tasks:task", "@pip//:numpy"],
    "speed.py": [":examples", ":speed_messages", "@pip//:numpy"],
    "speed_messages.py": ["//base:config", "@pip//:pydantic"],
    "speed_worker.py": [":programs", ":speed_messages", "//base:memory", "//base:provenance", "//models:network", "@pip//:numpy"],
    "speed_worker_test.py": [":speed_worker", "@pip//:numpy", "@pip//:pytest"],
}
