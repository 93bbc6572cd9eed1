"""What Ray Serve starts, checks and ends: a process that holds one model and listens for gateways.

Serve's own way to a replica, a gRPC server that unpickles what it gets, is of no use here and bound
to loopback.
"""

import os
import time
import traceback
from dataclasses import dataclass, replace
from pathlib import Path

import ray
import ray.serve._private.replica as serve_replica
from ray import serve

from models.network import Framework
from serving.control.announcements import Announcement, announce, failure, withdraw
from serving.control.ending import end_application, has_ended
from serving.control.home import shares_home
from serving.control.scaling import BUSY, BusyTime
from serving.control.threads import fair_threads, limit_threads, usable_cores
from serving.core.model import ServedModel
from serving.replicas.errors import RefusedArtifactError
from serving.replicas.model import load_model
from serving.replicas.server import serve as listen

# Between two attempts of replicas that do not start, doubled each time up to the last. Serve itself
# starts the next one at once, for ever.
_FIRST_PAUSE_S, _LAST_PAUSE_S = 0.5, 30.0

# How often it is seen whether the gateway is there.
_ORPHAN_PERIOD_S = 2.0

# Of a traceback.
_MAX_DETAIL = 8000


@dataclass(frozen=True)
class Hosting:
    """What the processes of one application are told.

    Attributes:
        application: Serve's name for it.
        framework: Who computes; None for the framework that trained the model.
        replicas: How many there are, or at least.
        max_replicas: How many there may be, as far as they share a machine.
        threads: Of each one's frameworks; None for a fair share of the cores.
        token: Which gateways prove to know.
        home: The gateway's directory.
        sign: What its file of that name holds.
        sockets: Where to listen, if the process sees that directory.
        node: The gateway's.
        job: The gateway, as a cluster that others use too knows it: when it is no more, the
            application ends itself. "" in a private Ray, which ends with its gateway.
        tcp: Listen for other machines, too, if it does.
        drain_s: How long what is being computed may take when the replica ends.
        stuck_after_s: A batch that takes longer will never end, and the replica is replaced.
    """

    application: str
    framework: Framework | None
    replicas: int
    max_replicas: int
    threads: int | None
    token: bytes
    home: Path
    sign: str
    sockets: Path
    node: str
    job: str
    tcp: bool
    drain_s: float
    stuck_after_s: float


class HostedModel:
    """One replica. Serve calls its methods by their names.

    Args:
        model: What is served.
        hosting: How.

    Raises:
        RefusedArtifactError: The artifact is not what it was, or cannot be computed.
    """

    def __init__(self, model: ServedModel, hosting: Hosting) -> None:
        self._hosting = hosting
        self._looked_at = -_ORPHAN_PERIOD_S
        self._end_if_orphaned()
        _keep_serve_on_loopback()
        threads = hosting.threads or fair_threads(hosting.max_replicas, usable_cores())
        limit_threads(threads)
        if _is_near(hosting):
            _share_compilations(hosting.home)
        unique = serve.get_replica_context().replica_id.unique_id
        self._name = f"{model.name}-{model.version}-{unique}"
        try:
            loaded = load_model(
                model.directory, model.digest, hosting.framework, model.max_batch_size
            )
            self._busy = BusyTime(loaded.compute)
            unix_path, tcp_host = _where(hosting, unique)
            self._server = listen(
                replace(loaded, compute=self._busy),
                name=self._name,
                unix_path=unix_path,
                tcp_host=tcp_host,
                token=hosting.token,
            )
        except Exception as error:
            _fail(hosting.application, self._name, error)
            raise
        announce(
            hosting.application,
            Announcement(self._name, tuple(self._server.addresses), _node(), loaded.digest),
        )

    def check_health(self) -> None:
        """Raises if this process will answer no more, upon which Serve starts another one."""
        self._end_if_orphaned()
        if not self._server.alive:
            raise RuntimeError("a thread of the replica has ended")
        if self._server.busy_s > self._hosting.stuck_after_s:
            raise RuntimeError(
                f"a batch has been computed for {self._server.busy_s:.0f} s and more; it is taken "
                "never to end"
            )

    def record_autoscaling_stats(self) -> dict[str, float]:
        """What Serve's autoscaler is told."""
        return {BUSY: self._busy.share()}

    def __del__(self) -> None:
        """Ends after what is being computed. Serve calls it when it wants the process to end."""
        server = getattr(self, "_server", None)
        if server is not None and ray.is_initialized():
            withdraw(self._hosting.application, self._name)
            server.stop(self._hosting.drain_s)

    def _end_if_orphaned(self) -> None:
        """Has Serve end the application if its gateway is no more: nobody else would.

        Raises:
            RuntimeError: It was; there is no need to start.
        """
        now = time.monotonic()
        if not self._hosting.job or now < self._looked_at + _ORPHAN_PERIOD_S:
            return
        self._looked_at = now
        if has_ended(self._hosting.job):
            end_application(self._hosting.application)
            raise RuntimeError("the gateway of this application is no more")


def _where(hosting: Hosting, unique: str) -> tuple[Path | None, str | None]:
    """Where to listen: on a path that the gateway sees, or at the address that Ray gives."""
    unix_path = hosting.sockets / unique if _is_near(hosting) else None
    beyond = hosting.tcp or unix_path is None
    return unix_path, ray.util.get_node_ip_address() if beyond else None


def _is_near(hosting: Hosting) -> bool:
    """Whether this process is on the gateway's machine, and sees its directory."""
    return _node() == hosting.node and shares_home(hosting.home, hosting.sign)


def _share_compilations(home: Path) -> None:
    """Has XLA keep what it compiles for the next replica, which is warm in a quarter of the time.

    What it keeps is code. So it is kept where only this user, and this gateway's replicas, write.
    """
    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(home / "compiled")
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"


def _node() -> str:
    return ray.get_runtime_context().get_node_id()


def _fail(application: str, replica: str, error: Exception) -> None:
    """Says why a replica does not start; but for the first one, after a pause."""
    reason, detail = str(error), ""
    if not isinstance(error, RefusedArtifactError):
        reason = f"a replica could not start: {type(error).__name__}: {reason}"
        detail = "".join(traceback.format_exception(error))[-_MAX_DETAIL:]
    before = failure(application)
    failures = 1 if before is None else before.failures + 1
    announce(application, Announcement(replica, failure=reason, detail=detail, failures=failures))
    if failures > 1:
        time.sleep(min(_FIRST_PAUSE_S * 2.0**failures, _LAST_PAUSE_S))


def _keep_serve_on_loopback() -> None:
    """Binds the server by which Serve's own handles reach a replica to loopback.

    Serve has no option for it and listens on all interfaces, for pickles of whoever has the token.
    """
    add_port = serve_replica.add_port_to_grpc_server

    def add_loopback_port(server: object, address: str) -> int:
        return add_port(server, address.replace("[::]", "127.0.0.1"))

    serve_replica.add_port_to_grpc_server = add_loopback_port
