"""What each Python source of this folder imports; `./bazelw run //infra/lint -- --fix` writes it."""

DEPS = {
    "best_checkpoints.py": [":callbacks", "//train:events"],
    "callbacks.py": ["//train:events"],
    "callbacks_test.py": [":callbacks", "//train:events", "@pip//:pytest"],
    "early_stopping.py": [":callbacks", ":improvement", "//train:events", "//train/config:callbacks"],
    "judges_test.py": [":best_checkpoints", ":callbacks", ":early_stopping", ":improvement", ":plateau", "//train:events", "//train/config:callbacks", "@pip//:hypothesis", "@pip//:pytest", "@pip//:torch"],
    "plateau.py": [":callbacks", ":improvement", "//train:events", "//train/config:callbacks"],
    "progress.py": ["//train:events", "@pip//:rich"],
    "progress_test.py": [":progress", "//train:events", "@pip//:rich"],
    "table.py": [":best_checkpoints", ":early_stopping", ":improvement", ":plateau", ":watch", "//train:events", "//train:meter", "//train/config:schema", "//train/tasks:table"],
    "watch.py": [":callbacks", "//train:events", "//train/config:callbacks", "@pip//:numpy"],
    "watch_test.py": [":watch", "//train:events", "//train/config:callbacks", "@pip//:numpy", "@pip//:pytest"],
}
