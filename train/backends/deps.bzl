"""What each Python source of this folder imports; `./bazelw run //infra/lint -- --fix` writes it."""

DEPS = {
    "averaging_test.py": [":deepspeed_backend", ":flax_backend", "//models:network", "//models/testing:parity", "//train:recipe", "//train/config:ema", "//train/launch:process_group", "//train/testing/sower:runs", "@pip//:numpy", "@pip//:pytest"],
    "backend.py": ["//comm:wire", "//models:network", "//models:weights", "//train:events", "//train:recipe", "@pip//:numpy"],
    "clipping_test.py": [":deepspeed_backend", ":flax_backend", "//models:network", "//models/testing:parity", "//train:recipe", "//train/config:schema", "//train/launch:process_group", "//train/testing/sower:runs", "@pip//:numpy", "@pip//:pytest"],
    "decay_test.py": [":deepspeed_backend", ":flax_backend", "//models:network", "//models/testing:parity", "//train:recipe", "//train/config:schema", "//train/launch:process_group", "@pip//:jax", "@pip//:numpy", "@pip//:pytest"],
    "deepspeed_backend.py": [":backend", ":torch_average", ":torch_checkpoint", ":torch_engine", ":torch_loss_scale", ":torch_partitions", ":torch_trace", "//base:memory", "//comm:wire", "//comm/torch:feedback", "//comm/torch:zero", "//models:network", "//models:weights", "//models/torch:predict", "//models/torch:weights", "//optim/torch:curvature", "//optim/torch:optimizer", "//train:data_parallel", "//train:events", "//train:recipe", "//train/config:schema", "//train/launch:heartbeat", "//train/launch:process_group", "//train/tasks:table", "//train/tasks:task", "@pip//:deepspeed", "@pip//:numpy", "@pip//:torch"],
    "digests_test.py": [":deepspeed_backend", ":flax_backend", "//comm/testing:ranks", "//comm/testing:zero_engines", "//models:weights", "//train/testing/sower:runs", "@pip//:jax", "@pip//:numpy", "@pip//:pytest", "@pip//:torch"],
    "flax_backend.py": [":backend", ":flax_checkpoint", ":flax_trace", ":flax_update", "//base:memory", "//base:provenance", "//comm:compression", "//comm:wire", "//comm/jax:transformation", "//data:loader", "//models:network", "//models:weights", "//models/flax:predict", "//models/flax:weights", "//optim/jax:transformation", "//train:data_parallel", "//train:events", "//train:loss_scale", "//train:recipe", "//train/config:schema", "@pip//:flax", "@pip//:jax", "@pip//:numpy", "@pip//:optax"],
    "flax_checkpoint.py": [":flax_update", "//comm:compression", "//comm/jax:transformation", "@pip//:jax", "@pip//:numpy", "@pip//:orbax_checkpoint"],
    "flax_trace.py": ["@pip//:jax"],
    "flax_update.py": [":backend", "//models:weights", "//models/flax:weights", "//optim/jax:curvature", "//optim/jax:fused", "//optim/jax:transformation", "//train:loss_scale", "//train:recipe", "//train/config:schema", "//train/tasks:table", "@pip//:flax", "@pip//:jax", "@pip//:optax"],
    "skip_test.py": [":deepspeed_backend", ":flax_backend", "//comm/testing:ranks", "//comm/testing:zero_engines", "//models:weights", "//train:loss_scale", "//train:recipe", "//train/checkpoint:course", "//train/config:schema", "//train/testing/sower:runs", "@pip//:jax", "@pip//:numpy", "@pip//:pytest"],
    "torch_average.py": ["//models:weights", "@pip//:torch"],
    "torch_checkpoint.py": [":torch_elastic", "//comm/torch:checkpoint", "//comm/torch:feedback", "//comm/torch:zero", "//comm/torch:zero_checkpoint", "//optim/torch:optimizer", "//train/backends/nvme:swapped", "@pip//:deepspeed", "@pip//:torch"],
    "torch_elastic.py": [":torch_partitions", "//kernels/optimizer_step:contract", "//optim/torch:optimizer", "//optim/torch:slots", "//train/backends/nvme:swapped", "@pip//:deepspeed", "@pip//:torch"],
    "torch_engine.py": ["//optim/torch:optimizer", "//train/backends/nvme:ops", "//train/backends/nvme:scratch", "//train/config:deepspeed", "//train/config:schema", "@pip//:deepspeed", "@pip//:torch"],
    "torch_loss_scale.py": ["//train:loss_scale", "//train/config:precision", "@pip//:numpy", "@pip//:torch"],
    "torch_partitions.py": ["//models:weights", "@pip//:deepspeed", "@pip//:torch"],
    "torch_trace.py": ["@pip//:torch"],
}
