"""What each Python source of this folder imports; `./bazelw run //infra/lint -- --fix` writes it."""

DEPS = {
    "bounded_queue.py": ["//base:config", "@pip//:pydantic"],
    "bounded_queue_test.py": [":bounded_queue", "@pip//:hypothesis", "@pip//:pydantic", "@pip//:pytest"],
    "breaker.py": [":rolling_counts", "//base:config", "@pip//:pydantic"],
    "breaker_test.py": [":breaker", "@pip//:hypothesis", "@pip//:pytest"],
    "concurrency_limit.py": ["//base:config", "@pip//:pydantic"],
    "concurrency_limit_test.py": [":concurrency_limit", "@pip//:hypothesis", "@pip//:pydantic", "@pip//:pytest"],
    "gathering.py": ["//base:config", "@pip//:pydantic"],
    "gathering_test.py": [":gathering", "@pip//:hypothesis", "@pip//:pytest"],
    "latency_bound.py": [":service_time", "//base:config", "@pip//:pydantic"],
    "latency_bound_test.py": [":latency_bound", ":service_time", "@pip//:numpy", "@pip//:pytest"],
    "retry_budget.py": [":rolling_counts", "//base:config", "@pip//:pydantic"],
    "retry_budget_test.py": [":retry_budget", "@pip//:hypothesis"],
    "rolling_counts_test.py": [":rolling_counts", "@pip//:hypothesis"],
    "service_time.py": ["//base:config", "@pip//:pydantic"],
    "service_time_test.py": [":service_time", "@pip//:hypothesis", "@pip//:numpy", "@pip//:pytest"],
    "token_bucket.py": ["//base:config", "@pip//:pydantic"],
    "token_bucket_test.py": [":token_bucket", "@pip//:hypothesis", "@pip//:pytest"],
}
