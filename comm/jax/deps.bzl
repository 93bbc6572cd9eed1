"""What each Python source of this folder imports; `./bazelw run //infra/lint -- --fix` writes it."""

DEPS = {
    "collectives.py": [":exchange", ":mesh_axis", "//comm:compression", "@pip//:jax"],
    "collectives_test.py": [":collectives", ":seeds", "//comm:compression", "//comm/testing:simulation", "//comm/testing:virtual_devices", "//kernels/quantize:contract", "@pip//:jax", "@pip//:numpy", "@pip//:pytest"],
    "exchange.py": [":mesh_axis", ":seeds", "//comm:compression", "//kernels/quantize:jax_op", "@pip//:jax", "@pip//:numpy"],
    "fsdp.py": [":collectives", ":mesh_axis", "//comm:compression", "@pip//:jax", "@pip//:numpy"],
    "fsdp_test.py": [":fsdp", "//comm:compression", "//comm/testing:simulation", "//comm/testing:virtual_devices", "//kernels/quantize:contract", "@pip//:jax", "@pip//:numpy", "@pip//:optax", "@pip//:pytest"],
    "mesh_axis.py": ["//comm:compression", "//kernels/quantize:contract", "@pip//:jax"],
    "nodes.py": [":collectives", ":mesh_axis", "//comm:compression", "@pip//:jax"],
    "nodes_test.py": [":transformation", "//comm:compression", "//comm:wire", "//comm/testing:simulation", "//comm/testing:virtual_devices", "//kernels/quantize:contract", "@pip//:jax", "@pip//:numpy", "@pip//:pytest"],
    "seeds.py": ["//comm:compression", "@pip//:jax"],
    "transformation.py": [":collectives", ":mesh_axis", ":nodes", "//comm:compression", "//comm:wire", "@pip//:jax", "@pip//:numpy", "@pip//:optax"],
    "transformation_test.py": [":transformation", "//comm:compression", "//comm/testing:simulation", "//comm/testing:virtual_devices", "//kernels/quantize:contract", "@pip//:jax", "@pip//:numpy", "@pip//:optax", "@pip//:pytest"],
}
