"""What each Python source of this folder imports; `./bazelw run //infra/lint -- --fix` writes it."""

DEPS = {
    "beginning.py": [":manifest", ":run_directory", ":store", "//models:network", "//train:events", "//train/callbacks:callbacks", "//train/config:schema"],
    "course.py": ["//base:config", "@pip//:pydantic"],
    "damage_test.py": [":beginning", ":manifest", ":run_directory", ":store", "//base:interrupts", "//registry:artifact", "//train:cli", "//train:events", "//train:flax", "//train:torch", "//train/testing/sower:runs", "@pip//:numpy", "@pip//:pytest"],
    "elastic_test.py": ["//base:interrupts", "//comm/testing:ranks", "//comm/testing:zero_engines", "//optim:adan", "//optim:sophia", "//train:events", "//train:flax", "//train:torch", "//train/config:schema", "//train/testing/sower:runs", "@pip//:jax", "@pip//:pytest"],
    "fine_tuning.py": ["//models:architecture", "//models:weights", "//registry:artifact", "//train/config:schema", "@pip//:numpy"],
    "fine_tuning_test.py": [":fine_tuning", "//models:weights", "//registry:artifact", "//train/config:schema", "//train/testing:example", "@pip//:numpy", "@pip//:pytest"],
    "manifest.py": [":course", "//base:config", "//base:files", "@pip//:pydantic"],
    "resume_test.py": ["//optim:sophia", "//train/config:schema", "//train/testing/sower:resumed_runs", "//train/testing/sower:runs", "@pip//:jax", "@pip//:pytest"],
    "retention.py": ["//train/config:checkpoint"],
    "retention_test.py": [":retention", "//train/config:checkpoint", "@pip//:hypothesis"],
    "run_directory.py": [":store", "//base:files", "//models:network", "//train:evaluation_files", "//train/config:schema"],
    "run_directory_test.py": [":run_directory", "//train/config:schema", "//train/testing:example", "@pip//:pytest"],
    "save_failure_test.py": [":run_directory", ":store", "//comm/testing:ranks", "//comm/testing:zero_engines", "//registry:artifact", "//train:events", "//train:flax", "//train:torch", "//train/config:schema", "//train/testing/sower:runs", "@pip//:pytest"],
    "saver.py": [":manifest", ":store", "//train:events", "//train/backends:backend", "//train/callbacks:callbacks", "//train/config:checkpoint"],
    "store.py": [":manifest", ":retention", "//base:files", "//train/config:checkpoint"],
}
