"""The environment that Ray and gRPC find: ours alone, whatever the user's shell exports.

Both libraries read it when they are imported, so it is set before. A variable meant for another
Ray, or for the way out to the internet, must not change a gateway whose Ray runs on loopback only.
"""

from collections.abc import MutableMapping

from serving.control.addresses import AUTO, LOCAL

SETTINGS = {
    # Ray forks while gRPC runs; the children replace themselves at once and use no gRPC of ours.
    "GRPC_ENABLE_FORK_SUPPORT": "0",
    # What matters of gRPC's own log reaches us as exceptions.
    "GRPC_VERBOSITY": "NONE",
    # Ray's own handler would print a stack and end the process on SIGTERM, before any draining.
    "RAY_DISABLE_FAILURE_SIGNAL_HANDLER": "1",
    # Nobody outside is told that this runs.
    "RAY_USAGE_STATS_ENABLED": "0",
}

# Of the private Ray only: those who run a cluster have decided this for themselves.
PRIVATE_SETTINGS = {
    # Named after the systems where it is the default: keeps Ray on loopback.
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    # A replica that hangs is ended at once. It would be waited for, and can never answer.
    "RAY_SERVE_FORCE_STOP_UNHEALTHY_REPLICAS": "1",
}

# What joining a cluster needs: how to prove that one may, and how to encrypt.
CREDENTIALS = frozenset(
    [
        "RAY_AUTH_MODE",
        "RAY_AUTH_TOKEN",
        "RAY_AUTH_TOKEN_PATH",
        "RAY_USE_TLS",
        "RAY_TLS_SERVER_CERT",
        "RAY_TLS_SERVER_KEY",
        "RAY_TLS_CA_CERT",
    ]
)

# gRPC and Ray would go through them even to 127.0.0.1. Both spellings are in use.
PROXIES = frozenset(["grpc_proxy", "http_proxy", "https_proxy", "all_proxy"])


def isolate(environ: MutableMapping[str, str], ray_address: str = LOCAL) -> list[str]:
    """Removes all that would lead Ray or gRPC elsewhere, and adds our settings.

    Args:
        environ: `os.environ`, and with it what child processes inherit.
        ray_address: The cluster that the gateway will use. Of one that it joins the credentials
            are kept, and for "auto" the address.

    Returns:
        The variables of Ray that were set and are not used, sorted: RAY_ADDRESS, for example.
    """
    settings, kept = SETTINGS | PRIVATE_SETTINGS, frozenset[str]()
    if ray_address != LOCAL:
        settings = SETTINGS
        kept = CREDENTIALS | ({"RAY_ADDRESS"} if ray_address == AUTO else frozenset())
    unused = sorted(
        name
        for name in environ
        if name.startswith("RAY_") and name not in settings and name not in kept
    )
    proxies = [name for name in environ if name.lower() in PROXIES]
    for name in [*unused, *proxies]:
        del environ[name]
    environ.update(settings)
    if ray_address != LOCAL and not {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"}.isdisjoint(environ):
        # Without it Ray would not send the token.
        environ.setdefault("RAY_AUTH_MODE", "token")
    return unused
