"""What each Python source of this folder imports; `./bazelw run //infra/lint -- --fix` writes it."""

DEPS = {
    "bundle.py": [":keys", "//base:config", "//registry:errors", "@pip//:cryptography", "@pip//:pydantic"],
    "certificates.py": [":keys", ":trust", "//registry:errors", "@pip//:cryptography"],
    "certificates_test.py": [":keys", ":signing", ":verification", "//registry:artifact", "//registry:errors", "//registry/trust/testing:house", "//registry/trust/testing:identities", "@pip//:cryptography", "@pip//:pytest"],
    "evaluations_test.py": [":signing", ":trust", ":verification", "//registry:errors", "//registry:evaluation_example", "//registry:evaluations", "@pip//:pytest"],
    "keys.py": ["//base:text", "//registry:errors", "//registry:payload", "@pip//:cryptography"],
    "signing.py": [":bundle", ":keys", ":verification", "//base:files", "//registry:artifact", "//registry:descriptor", "//registry:errors", "//registry:evaluations", "@pip//:cryptography", "@pip//:model_signing"],
    "signing_test.py": [":keys", ":signing", ":trust", ":verification", "//registry:artifact", "//registry:errors", "//registry:example", "//registry/trust/testing:identities", "@pip//:cryptography", "@pip//:pytest"],
    "trust.py": [":keys", "//base:config", "//base:yaml_loader", "//registry:errors", "//registry:payload", "@pip//:cryptography", "@pip//:pydantic"],
    "trust_test.py": [":signing", ":trust", "//registry:errors", "//registry/trust/testing:identities", "@pip//:pytest"],
    "verification.py": [":bundle", ":certificates", ":keys", ":trust", "//base:text", "//registry:artifact", "//registry:contents", "//registry:descriptor", "//registry:errors", "//registry:evaluations", "//registry:payload"],
    "verification_test.py": [":verification", "//proto/hpc/artifact/v1:artifact_py_proto", "//registry:artifact", "//registry:errors", "//registry:example", "//registry/trust/testing:house", "//registry/trust/testing:identities", "@pip//:cryptography", "@pip//:pytest"],
}
