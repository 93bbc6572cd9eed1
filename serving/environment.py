"""The environment that Ray and gRPC find: ours alone, whatever the user's shell exports.

Both libraries read it when they are imported, so it is set before. A variable meant for another
Ray, or for the way out to the internet, must not change a gateway that runs on loopback only.
"""

from collections.abc import MutableMapping

SETTINGS = {
    # Ray forks while gRPC runs; the children replace themselves at once and use no gRPC of ours.
    "GRPC_ENABLE_FORK_SUPPORT": "0",
    # What matters of gRPC's own log reaches us as exceptions.
    "GRPC_VERBOSITY": "NONE",
    # Ray's own handler would print a stack and end the process on SIGTERM, before any draining.
    "RAY_DISABLE_FAILURE_SIGNAL_HANDLER": "1",
    # A replica computes in a thread of its own (worker.py), so its coroutines need no loop apart
    # from Serve's: two thread switches less in a request.
    "RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD": "0",
    # Named after the systems where it is the default: keeps Ray on loopback.
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
}

# gRPC and Ray would go through them even to 127.0.0.1. Both spellings are in use.
PROXIES = frozenset(["grpc_proxy", "http_proxy", "https_proxy", "all_proxy"])


def isolate(environ: MutableMapping[str, str]) -> list[str]:
    """Removes all that would lead Ray or gRPC elsewhere, and adds SETTINGS.

    Args:
        environ: `os.environ`, and with it what child processes inherit.

    Returns:
        The variables of Ray that were set and are not used, sorted: RAY_ADDRESS, for example.
    """
    rays = sorted(name for name in environ if name.startswith("RAY_") and name not in SETTINGS)
    proxies = [name for name in environ if name.lower() in PROXIES]
    for name in [*rays, *proxies]:
        del environ[name]
    environ.update(SETTINGS)
    return rays
