"""The replicas of one version: started, followed, replaced and ended."""

import asyncio
import itertools
import logging
from contextlib import suppress
from dataclasses import dataclass

from serving.configuration.model_config import ModelOptions
from serving.control import announcements, applications
from serving.control.announcements import Announcement
from serving.control.applications import NOTHING_SAID, Status
from serving.control.cluster import Cluster
from serving.control.ending import end_application
from serving.control.hosting import Hosting
from serving.control.options import RayConfig
from serving.control.replica_set import ReplicaSet
from serving.core.model import ServedModel
from serving.errors import StartError

_log = logging.getLogger(__name__)

# How often it is seen who is there: while somebody is missed, and otherwise. What breaks is known
# at once, by its connection.
_MISSING_PERIOD_S, _PERIOD_S = 0.1, 1.0

# Serve's own view is needed only where a replica could not say what is wrong.
_STATUS_PERIOD_S = 0.5

# Between two attempts to start what Serve has given up on, doubled each time up to the last.
_FIRST_PAUSE_S, _LAST_PAUSE_S = 1.0, 60.0


class Placer:
    """Starts replicas in a Ray. `serving.life.fleet.Placer`.

    Args:
        cluster: The Ray.
        config: How they run.
    """

    def __init__(self, cluster: Cluster, config: RayConfig) -> None:
        self._cluster, self._config = cluster, config
        self._numbers = itertools.count(1)

    async def place(self, model: ServedModel, options: ModelOptions) -> "Placement":
        """Begins to start the replicas of a version.

        Raises:
            StartError: Serve does not take it.
        """
        name = applications.application_name(self._cluster.gateway, model, next(self._numbers))
        placement = Placement(self._cluster, self._config, model, options, name)
        await placement.deploy()
        return placement


@dataclass
class _Seen:
    """What is known of an application besides its connections."""

    failure: Announcement | None = None
    status: Status = NOTHING_SAID
    has_been_ready: bool = False


class Placement:
    """The replicas of one version. `serving.life.fleet.Placed`.

    Args:
        cluster: Where they run.
        config: How.
        model: What they hold.
        options: Who computes, and how many there are.
        application: Serve's name for them.
    """

    def __init__(
        self,
        cluster: Cluster,
        config: RayConfig,
        model: ServedModel,
        options: ModelOptions,
        application: str,
    ) -> None:
        self._cluster, self._config = cluster, config
        self._model, self._application = model, application
        self._replicas, self._framework = options.replicas, options.framework
        self._seen = _Seen()
        self._wake = asyncio.Event()
        self._looked = asyncio.Condition()
        self._following: asyncio.Task[None] | None = None
        self.channels = ReplicaSet(
            digest=model.digest,
            node=cluster.node,
            token=cluster.token,
            is_starting=self._is_starting,
            why_empty=self._why_empty,
            gone=self._gone,
        )
        self.channels.subscribe(self._changed)

    async def deploy(self) -> None:
        """Has Serve start them, and follows what comes of it.

        Raises:
            StartError: Serve does not take it.
        """
        try:
            await self._cluster.call(
                applications.deploy, self._model, self._hosting(), self._config
            )
        except Exception as error:  # Ray documents none, and raises many
            raise StartError(f"Ray Serve does not take {self._application}: {error}") from error
        if self._following is None:
            self._following = asyncio.create_task(self._follow())

    async def ready(self) -> None:
        """Waits until all of them are connected, and so warm.

        Raises:
            StartError: One of them does not start; the notes say where it failed, if that was no
                refusal of the artifact.
        """
        async with self._looked:
            while self._missing():
                if (error := self._start_error()) is not None:
                    raise error
                await self._looked.wait()

    async def remove(self) -> None:
        """Ends them; they answer what they have first."""
        if self._following is not None:
            self._following.cancel()
            await asyncio.gather(self._following, return_exceptions=True)
        try:
            await self._cluster.call(end_application, self._application)
        except Exception as error:  # of Ray's; what is not ended now ends with Ray, or the gateway
            _log.warning("%s was not ended: %s", self._application, error)
        await self.channels.close()

    def _missing(self) -> int:
        """How many there are too few; when they are scaled there may also be more."""
        return max(0, self._replicas - len(self.channels.connected))

    def _hosting(self) -> Hosting:
        config, cluster = self._config, self._cluster
        return Hosting(
            application=self._application,
            framework=self._framework,
            replicas=self._replicas,
            max_replicas=max(self._replicas, config.max_replicas or 0),
            threads=config.threads_per_replica,
            token=cluster.token,
            home=cluster.home.directory,
            sign=cluster.home.sign,
            sockets=cluster.home.sockets,
            node=cluster.node,
            job="" if cluster.is_private else cluster.job,
            tcp=config.replica_tcp,
            drain_s=config.replica_drain_s,
            stuck_after_s=config.stuck_after_s,
        )

    async def _follow(self) -> None:
        """Looks for ever: connects to who is new, and starts anew what Serve has given up."""
        pause_s = _FIRST_PAUSE_S
        next_status = 0.0
        loop = asyncio.get_running_loop()
        while not self._cluster.lost:
            self._wake.clear()
            try:
                await self._look(with_status=self._missing() > 0 and loop.time() >= next_status)
            except Exception as error:  # of Ray's, which `supervision` judges
                _log.debug("%s: Ray does not answer: %s", self._application, error)
            if loop.time() >= next_status:
                next_status = loop.time() + _STATUS_PERIOD_S
            if not self._missing():
                pause_s = _FIRST_PAUSE_S
            async with self._looked:
                self._looked.notify_all()
            if self._seen.has_been_ready and self._seen.status.has_failed:
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, _LAST_PAUSE_S)
                await self._again()
            await self._wait()
        async with self._looked:
            self._looked.notify_all()

    async def _look(self, *, with_status: bool) -> None:
        call, name = self._cluster.call, self._application
        self.channels.announced(await call(announcements.warm, name, self.channels.known))
        if self._missing():
            self._tell(await call(announcements.failure, name))
            if with_status:
                self._hear(await call(applications.status, name))
        else:
            self._seen.failure, self._seen.status = None, NOTHING_SAID

    def _tell(self, failure: Announcement | None) -> None:
        """Says once of a replica that it does not start."""
        if failure is not None and failure != self._seen.failure:
            _log.warning("replica %s does not start: %s", failure.replica, failure.failure)
        self._seen.failure = failure

    def _hear(self, status: Status) -> None:
        """Says once what Serve has to say, but not that a replica died: that is known already."""
        is_new = status.message not in ("", self._seen.status.message)
        if is_new and (status.has_failed or not self._seen.has_been_ready):
            _log.warning("%s: %s", self._application, _last_line(status.message))
        self._seen.status = status

    async def _again(self) -> None:
        _log.warning("%s is started again, as Ray Serve has given it up", self._application)
        try:
            await self.deploy()
        except StartError as error:
            _log.warning("%s", error)
        self._seen.status = NOTHING_SAID

    async def _wait(self) -> None:
        period_s = _MISSING_PERIOD_S if self._missing() else _PERIOD_S
        with suppress(TimeoutError):
            await asyncio.wait_for(self._wake.wait(), period_s)

    def _changed(self) -> None:
        if not self._missing():
            self._seen.has_been_ready = True
        self._wake.set()

    def _gone(self, replica: str) -> None:
        """A replica has ended without a word."""
        withdrawn = self._cluster.call(announcements.withdraw, self._application, replica)
        task = asyncio.ensure_future(withdrawn)
        task.add_done_callback(lambda done: done.cancelled() or done.exception())

    def _is_starting(self) -> bool:
        seen = self._seen
        has_failed = seen.failure is not None or seen.status.has_failed
        return not (self._cluster.lost or has_failed or seen.has_been_ready)

    def _why_empty(self) -> str:
        """In words that callers are told too, who need not know paths of this machine."""
        seen = self._seen
        if self._cluster.lost:
            return "the cluster that ran it is gone"
        if seen.failure is not None and not seen.failure.detail:
            return "its artifact is refused; the log says why"
        if seen.failure is not None or seen.status.has_failed:
            return "its replicas do not start; the log says why"
        if seen.has_been_ready:
            return "its replica died, and another one is being started"
        return "starting"

    def _start_error(self) -> StartError | None:
        seen = self._seen
        if self._cluster.lost:
            return StartError(self._cluster.lost)
        if seen.failure is not None:
            error = StartError(seen.failure.failure)
            if seen.failure.detail:
                error.add_note(seen.failure.detail)
            return error
        if seen.status.has_failed:
            error = StartError(f"a replica could not start: {_last_line(seen.status.message)}")
            error.add_note(seen.status.message)
            return error
        return None


def _last_line(message: str) -> str:
    return (message.strip().splitlines() or ["Ray Serve does not say why"])[-1]
