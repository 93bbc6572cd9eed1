"""What each Python source of this folder imports; `./bazelw run //infra/lint -- --fix` writes it."""

DEPS = {
    "artifacts_test.py": ["//models:network", "//registry:artifact", "//serving:client", "//serving:example", "//serving:gateway_process", "//serving:model", "//serving:predictor", "//serving:replica", "//tests/effects:bases", "//train:flax", "//train:torch", "//train/config:schema", "//train/testing:parity_runs", "@pip//:numpy", "@pip//:pytest"],
    "compression_convergence_test.py": ["//comm:compression", "//comm/testing:ranks", "//comm/torch:ddp", "//data:loader", "//data/sources:digits", "//models:architecture", "//models:weights", "//models/torch:weights", "//optim:schedule", "@pip//:numpy", "@pip//:pytest", "@pip//:torch"],
    "config_effect_test.py": ["//tests/effects:bases", "//tests/effects:content", "//tests/effects:needs", "//tests/effects:outcome", "//tests/effects:values", "//train/config:reference", "//train/config:schema", "//train/launch:process_group", "@pip//:pydantic", "@pip//:pytest"],
    "config_refusals_test.py": ["//base:config", "//tests/effects:bases", "//tests/effects:content", "//train/config:schema", "@pip//:pydantic", "@pip//:pytest"],
    "curvature_test.py": ["//models:architecture", "//models/flax:weights", "//models/testing:parity", "//models/torch:weights", "//optim/jax:curvature", "//optim/torch:curvature", "@pip//:flax", "@pip//:jax", "@pip//:numpy", "@pip//:optax", "@pip//:torch"],
    "extension_test.py": ["//data:source", "//models:architecture", "//optim:registry", "//registry:artifact", "//serving:predictor", "//tests/toy:network", "//tests/toy:optimizer", "//tests/toy:source", "//train:flax", "//train:torch", "//train/checkpoint:run_directory", "//train/config:load", "//train/config:schema", "@pip//:numpy", "@pip//:pytest"],
    "kill_and_resume.py": ["//base:program", "//registry:artifact", "//train/checkpoint:run_directory", "@pip//:numpy", "@pip//:typer"],
    "kill_and_resume_test.py": [":kill_and_resume", "//train/testing:trainer_programs", "@pip//:pytest"],
    "names_test.py": ["//data:source", "//models:architecture", "//optim:registry", "@pip//:pytest"],
    "portable_artifacts_test.py": ["//models:network", "//proto/hpc/artifact/v1:artifact_py_proto", "//registry:artifact", "//registry/programs:probe", "//registry/programs:program", "//serving:predictor", "//train:flax", "//train:torch", "//train/checkpoint:beginning", "//train/config:schema", "//train/testing:example", "@pip//:jax", "@pip//:numpy", "@pip//:pytest", "@pip//:pyyaml"],
    "programs_test.py": ["//models:architecture", "//models:network", "//models/cnn:cases", "//models/flax:export", "//models/flax:predict", "//models/mlp:cases", "//models/testing:parity", "//models/torch:export", "//models/torch:predict", "//proto/hpc/artifact/v1:artifact_py_proto", "//registry/programs:program", "//train:publication", "//train/config:load", "//train/testing:example", "@pip//:jax", "@pip//:numpy", "@pip//:pytest"],
    "quickstart_test.py": ["//registry:artifact", "@pip//:numpy", "@pip//:pytest"],
}
