"""What each Python source of this folder imports; `./bazelw run //infra/lint -- --fix` writes it."""

DEPS = {
    "curvature.py": ["@pip//:torch"],
    "curvature_test.py": [":curvature", "@pip//:pytest", "@pip//:torch"],
    "fsdp_test.py": [":curvature", ":optimizer", ":slots", "//optim:registry", "@pip//:pytest", "@pip//:torch"],
    "fused_test.py": [":curvature", ":optimizer", "//kernels:dispatch", "//kernels/optimizer_step:_native", "//kernels/optimizer_step:contract", "//kernels/optimizer_step:torch_op", "//optim:adabelief", "//optim:adan", "//optim:algorithm", "//optim:registry", "//optim:sophia", "@pip//:numpy", "@pip//:pytest", "@pip//:torch"],
    "groups.py": ["//optim:algorithm", "//optim:registry", "@pip//:pydantic"],
    "groups_test.py": [":optimizer", "//optim:adamw", "//optim:lion", "//optim:registry", "@pip//:numpy", "@pip//:pytest", "@pip//:torch"],
    "hooks_test.py": [":optimizer", "//kernels:dispatch", "//optim:registry", "@pip//:pytest", "@pip//:torch"],
    "layout.py": ["//kernels:torch_arguments", "@pip//:torch"],
    "optimizer.py": [":groups", ":slots", ":update", "//kernels/optimizer_step:contract", "//optim:algorithm", "@pip//:torch"],
    "optimizer_test.py": [":curvature", ":optimizer", "//kernels:dispatch", "//optim:adamw", "//optim:lion", "//optim:registry", "//optim:sophia", "@pip//:pytest", "@pip//:torch"],
    "safety_test.py": [":curvature", ":optimizer", "//kernels:dispatch", "//kernels/optimizer_step:contract", "//optim:registry", "@pip//:pytest", "@pip//:torch"],
    "slots.py": ["//kernels/optimizer_step:contract", "//kernels/quantize:torch_op", "@pip//:torch"],
    "update.py": [":layout", ":slots", "//kernels/optimizer_step:contract", "//kernels/optimizer_step:torch_op", "//optim:algorithm", "@pip//:numpy", "@pip//:torch"],
}
