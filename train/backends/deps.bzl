"""What each Python source of this folder imports; `./bazelw run //infra/lint -- --fix` writes it."""

DEPS = {
    "backend.py": ["//comm:wire", "//models:network", "//models:weights", "//train:recipe", "@pip//:numpy"],
    "deepspeed_backend.py": [":backend", "//comm:wire", "//comm/torch:zero", "//models:context", "//models:network", "//models:weights", "//models/torch:predict", "//models/torch:weights", "//optim/torch:curvature", "//optim/torch:optimizer", "//train:data_parallel", "//train:recipe", "//train/config:schema", "//train/launch:process_group", "//train/tasks:table", "//train/tasks:task", "@pip//:deepspeed", "@pip//:numpy", "@pip//:torch"],
    "flax_backend.py": [":backend", ":flax_update", "//comm:compression", "//comm:wire", "//comm/jax:transformation", "//data:loader", "//models:network", "//models:weights", "//models/flax:predict", "//models/flax:weights", "//optim/jax:transformation", "//train:data_parallel", "//train:recipe", "//train/config:schema", "@pip//:flax", "@pip//:jax", "@pip//:numpy", "@pip//:optax"],
    "flax_update.py": [":backend", "//models:context", "//models/flax:weights", "//optim/jax:curvature", "//optim/jax:fused", "//optim/jax:transformation", "//train:recipe", "//train/config:schema", "//train/tasks:table", "@pip//:flax", "@pip//:jax", "@pip//:numpy", "@pip//:optax"],
}
