"""What each Python source of this folder imports; `./bazelw run //infra/lint -- --fix` writes it."""

DEPS = {
    "artifacts.py": ["//registry:artifact", "//registry:example", "@pip//:numpy"],
    "contents.py": ["@pip//:boto3"],
    "kills.py": ["@pip//:aiobotocore"],
    "s3_server.py": ["@pip//:boto3", "@pip//:moto"],
}
