"""What the server says of itself, the same by every protocol."""

NAME = "hpc-gateway"
VERSION = "0.1.0"

# Those of Triton's that are honoured by every protocol: `classification` of outputs, the
# repository's index, and `priority` and `timeout` of requests.
EXTENSIONS = ("classification", "model_repository", "schedule_policy")
