"""What each Python source of this folder imports; `./bazelw run //infra/lint -- --fix` writes it."""

DEPS = {
    "checkpoint_test.py": [":transformation", ":ways", "//optim:algorithm", "//optim:registry", "@pip//:jax", "@pip//:numpy", "@pip//:optax", "@pip//:orbax_checkpoint", "@pip//:pytest"],
    "composition_test.py": [":transformation", "//optim:adamw", "@pip//:jax", "@pip//:numpy", "@pip//:optax", "@pip//:pytest"],
    "curvature.py": ["@pip//:jax", "@pip//:optax"],
    "curvature_test.py": [":curvature", "@pip//:jax", "@pip//:numpy", "@pip//:optax", "@pip//:pytest"],
    "decay.py": [":rates", ":slots", ":transformation", "//optim:algorithm", "@pip//:jax", "@pip//:optax"],
    "fused.py": [":decay", ":gradients", ":rates", ":transformation", "//kernels/optimizer_step:contract", "//kernels/optimizer_step:jax_op", "//optim:algorithm", "@pip//:jax", "@pip//:optax"],
    "fused_test.py": [":fused", ":transformation", ":ways", "//kernels:dispatch", "//kernels/optimizer_step:jax_op", "//optim:algorithm", "//optim:registry", "//optim/torch:optimizer", "@pip//:jax", "@pip//:numpy", "@pip//:optax", "@pip//:pytest", "@pip//:torch"],
    "gradients.py": ["@pip//:jax", "@pip//:numpy", "@pip//:optax"],
    "gradients_test.py": [":transformation", ":ways", "//optim:sophia", "@pip//:jax", "@pip//:numpy", "@pip//:pytest"],
    "rates.py": ["//optim:algorithm", "@pip//:jax", "@pip//:numpy", "@pip//:optax"],
    "rates_test.py": [":transformation", ":ways", "//optim:lion", "@pip//:jax", "@pip//:numpy", "@pip//:pytest"],
    "schedule.py": ["@pip//:jax", "@pip//:numpy", "@pip//:optax"],
    "schedule_test.py": [":schedule", ":transformation", ":ways", "//optim:lion", "//optim:schedule", "@pip//:jax", "@pip//:numpy", "@pip//:pytest"],
    "slots.py": ["//kernels/optimizer_step:contract", "//kernels/quantize:jax_op", "@pip//:jax", "@pip//:numpy"],
    "transformation.py": [":gradients", ":rates", ":slots", "//optim:algorithm", "@pip//:jax", "@pip//:numpy", "@pip//:optax"],
    "transformation_test.py": [":transformation", ":ways", "//optim:adamw", "//optim:lion", "//optim:registry", "//optim:sophia", "@pip//:jax", "@pip//:numpy", "@pip//:optax", "@pip//:pytest"],
    "ways.py": [":fused", ":transformation", "//optim:algorithm", "@pip//:optax"],
}
