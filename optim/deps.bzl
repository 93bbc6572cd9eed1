"""What each Python source of this folder imports; `./bazelw run //infra/lint -- --fix` writes it."""

DEPS = {
    "adabelief.py": [":algorithm", "@pip//:pydantic"],
    "adamw.py": [":algorithm", "@pip//:pydantic"],
    "adan.py": [":algorithm", "@pip//:pydantic"],
    "algorithm.py": ["//base:config", "@pip//:pydantic"],
    "algorithm_test.py": [":adabelief", ":registry", "@pip//:pydantic", "@pip//:pytest"],
    "lion.py": [":algorithm", "@pip//:pydantic"],
    "nonfinite_test.py": [":algorithm", ":registry", "//kernels:dispatch", "//optim/jax:transformation", "//optim/jax:ways", "//optim/torch:curvature", "//optim/torch:optimizer", "@pip//:jax", "@pip//:numpy", "@pip//:pytest", "@pip//:torch"],
    "papers.py": ["@pip//:numpy"],
    "registry.py": [":adabelief", ":adamw", ":adan", ":algorithm", ":lion", ":sophia"],
    "schedule_test.py": [":schedule", "@pip//:optax", "@pip//:pytest", "@pip//:torch"],
    "sophia.py": [":algorithm", "@pip//:pydantic"],
    "trajectory_test.py": [":adabelief", ":adamw", ":adan", ":algorithm", ":lion", ":papers", ":sophia", "//optim/jax:transformation", "//optim/jax:ways", "//optim/torch:curvature", "//optim/torch:optimizer", "@pip//:jax", "@pip//:numpy", "@pip//:pytest", "@pip//:torch"],
}
