"""What each Python source of this folder imports; `./bazelw run //infra/lint -- --fix` writes it."""

DEPS = {
    "accuracy.py": [":torch_run", "@pip//:numpy", "@pip//:torch"],
    "accuracy_test.py": [":accuracy", ":error_table", ":torch_run", "@pip//:numpy", "@pip//:pytest", "@pip//:torch"],
    "arrays.py": ["@pip//:ml_dtypes", "@pip//:numpy", "@pip//:torch"],
    "cubins.py": ["//kernels:cubin_loader"],
    "error_table.py": [":accuracy", ":torch_run", "@pip//:pytest", "@pip//:torch"],
    "fake_driver.py": ["@pip//:pytest"],
    "instruction_sets.py": ["@pip//:pytest"],
    "jax_run.py": [":accuracy", ":arrays", "@pip//:jax", "@pip//:numpy", "@pip//:torch"],
    "torch_run.py": ["@pip//:torch"],
}
