"""What each Python source of this folder imports; `./bazelw run //infra/lint -- --fix` writes it."""

DEPS = {
    "architecture_test.py": ["@pip//:pytest"],
    "debian_packages_test.py": [":debian_packages", "@pip//:pytest"],
    "pip_install_test.py": [":pip_install_module", "@pip//:pytest"],
    "protoc.py": ["@pip//:grpcio_tools"],
    "py_imports_test.py": [":py_imports_module", "@pip//:pytest"],
    "pytest_main.py": ["@pip//:pytest"],
    "pytest_main_test.py": ["@pip//:pytest"],
    "triton_compile.py": ["@pip//:triton"],
    "triton_compile_test.py": [":triton_compile_module", "@pip//:pytest", "@pip//:triton"],
}
