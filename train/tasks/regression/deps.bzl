"""What each Python source of this folder imports; `./bazelw run //infra/lint -- --fix` writes it."""

DEPS = {
    "evaluation.py": ["//data:dataset", "//train/tasks:estimates", "//train/tasks:task", "@pip//:numpy"],
    "flax_objective.py": ["//train/tasks:task", "@pip//:jax"],
    "task.py": [":evaluation", ":flax_objective", ":torch_objective", "//base:config", "//data:dataset", "//models:initializers", "//models:network", "//train/tasks:task", "@pip//:numpy", "@pip//:pydantic"],
    "task_test.py": [":task", "//data:dataset", "//optim/jax:curvature", "//train:evaluation", "@pip//:jax", "@pip//:numpy", "@pip//:pytest", "@pip//:scikit_learn", "@pip//:torch"],
    "torch_objective.py": ["//train/tasks:task", "@pip//:torch"],
}
