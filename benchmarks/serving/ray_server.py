"""Ray Serve with the model of the comparison, behind its own HTTP and gRPC proxies.

ray_server JOB.json HTTP_PORT GRPC_PORT [NAME=BATCH_WAIT_S]...

It has an application for each name, which HTTP finds by /NAME and gRPC by metadata; a request waits
so long for others, and with 0 it is computed by itself.
"""

import os
import secrets
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from tempfile import TemporaryDirectory

from benchmarks.serving.job import Job, read_job

# More than callers of the comparison: a full replica has Serve's router sleep for up to 0.5 s.
_MAX_ONGOING_REQUESTS = 1024

_SETTINGS = {
    # Serve's own choice of what makes it fast, but for the replicas' own ports, which would take
    # the place of the proxies.
    "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
    "RAY_SERVE_ENABLE_DIRECT_INGRESS": "0",
    # Named after the systems where it is the default: keeps Ray on loopback.
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    # Its own handler would end the process on SIGTERM before its files are removed.
    "RAY_DISABLE_FAILURE_SIGNAL_HANDLER": "1",
}

_ADD_SERVICE = "inference.grpc_service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server"


def _serve(job: Job, http_port: int, grpc_port: int, waits_s: Mapping[str, float]) -> None:
    """Returns when all applications are ready."""
    from ray import serve
    from ray.serve.config import gRPCOptions
    from ray.serve.schema import LoggingConfig

    from benchmarks.serving.ray_replicas import Batched, Single

    logs = LoggingConfig(enable_access_log=False)
    serve.start(
        proxy_location="HeadOnly",
        http_options={"host": "127.0.0.1", "port": http_port},
        grpc_options=gRPCOptions(port=grpc_port, grpc_servicer_functions=[_ADD_SERVICE]),
        logging_config=logs,
    )
    for name, wait_s in waits_s.items():
        deployment = serve.deployment(
            name=name, max_ongoing_requests=_MAX_ONGOING_REQUESTS, logging_config=logs
        )
        replica = deployment(Batched).bind(job, wait_s) if wait_s else deployment(Single).bind(job)
        serve.run(replica, name=name, route_prefix=f"/{name}")


@contextmanager
def _private_ray(num_cpus: int) -> Iterator[None]:
    """Runs Ray on loopback, with a token that never leaves its processes."""
    import ray

    # Paths of Unix sockets are limited to 107 bytes, and TMPDIR can be longer than that.
    with TemporaryDirectory(prefix="ray-", dir="/tmp", ignore_cleanup_errors=True) as directory:
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
        try:
            ray.init(
                address="local",
                num_cpus=num_cpus,
                include_dashboard=False,
                log_to_driver=False,
                _temp_dir=directory,
            )
            yield
        finally:
            ray.shutdown()


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    # Ray and Serve read them when they are imported.
    os.environ.update(_SETTINGS)
    file, http_port, grpc_port, *names = sys.argv[1:]
    waits_s = {name: float(wait_s) for name, _, wait_s in (one.partition("=") for one in names)}
    with _private_ray(num_cpus=len(waits_s)):
        _serve(read_job(file), int(http_port), int(grpc_port), waits_s)
        signal.pause()
