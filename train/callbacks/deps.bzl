"""What each Python source of this folder imports; `./bazelw run //infra/lint -- --fix` writes it."""

DEPS = {
    "best_checkpoints.py": [":callbacks", "//train:events"],
    "callbacks.py": ["//train:events"],
    "callbacks_test.py": [":callbacks", "//train:events", "@pip//:pytest"],
    "early_stopping.py": [":callbacks", ":improvement", "//train:events", "//train/config:callbacks"],
    "event_files.py": [":appended_file", ":scalars", "//train:events", "@pip//:tensorboard"],
    "json_lines.py": [":appended_file", "//base:files", "//train:events"],
    "judges_test.py": [":best_checkpoints", ":callbacks", ":early_stopping", ":improvement", ":plateau", "//train:events", "//train/config:callbacks", "@pip//:hypothesis", "@pip//:pytest", "@pip//:torch"],
    "plateau.py": [":callbacks", ":improvement", "//train:events", "//train/config:callbacks"],
    "progress.py": ["//train:events", "@pip//:rich"],
    "progress_test.py": [":progress", "//train:events", "@pip//:rich"],
    "prometheus_page.py": [":callbacks", "//train:events", "//train/config:schema", "@pip//:prometheus_client"],
    "prometheus_page_test.py": [":prometheus_page", "//train:events", "//train/config:schema", "@pip//:prometheus_client", "@pip//:pytest"],
    "recorder.py": [":callbacks", "//train:events"],
    "recorder_test.py": [":appended_file", ":event_files", ":json_lines", ":recorder", "//train:events", "@pip//:pytest", "@pip//:tensorboard"],
    "scalars.py": ["//train:events"],
    "surroundings.py": ["//train:phases", "//train/backends:backend"],
    "table.py": [":best_checkpoints", ":early_stopping", ":event_files", ":improvement", ":json_lines", ":plateau", ":prometheus_page", ":recorder", ":surroundings", ":watch", "//train:events", "//train:meter", "//train/checkpoint:run_directory", "//train/config:schema", "//train/tasks:table"],
    "watch.py": [":callbacks", "//train:events", "//train/config:callbacks", "@pip//:numpy"],
    "watch_test.py": [":watch", "//train:events", "//train/config:callbacks", "@pip//:numpy", "@pip//:pytest"],
}
