"""The replicas in Ray Serve, and the gateway's way to call them."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import numpy as np
import ray.exceptions
from ray import serve
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError
from ray.serve.handle import DeploymentHandle
from ray.serve.schema import ApplicationStatusOverview, LoggingConfig

from serving.config import GatewayConfig
from serving.errors import OverloadedError, RefusedArtifactError, StartError, UnavailableError
from serving.model import ServedModel
from serving.replica import Replica
from serving.service import Predict

APPLICATION = "gateway"

# Requests in one replica, running or next in line, and requests that wait for one to have room. The
# first is large because Serve's router sleeps up to 0.5 s when all replicas are full: with 16, a
# burst of 600 requests took 14 s to answer, with 256 it takes 1 s (2 cores).
MAX_ONGOING_REQUESTS = 256
MAX_QUEUED_REQUESTS = 256

# A replica that has died is noticed, and another started, after this and not after Serve's 10 s.
HEALTH_CHECK_PERIOD_S = 1.0

# How often it is seen whether the replicas are ready.
STATUS_PERIOD_S = 0.1

# How a traceback, which is all that comes back of a replica that did not start, begins its end.
_REFUSED = f"{RefusedArtifactError.__module__}.{RefusedArtifactError.__qualname__}: "

# Above this size, writing to Ray's shared memory costs less than copying through a socket.
BY_REFERENCE_MIN_BYTES = 2**20


def deploy(config: GatewayConfig, model: ServedModel, go_on: Callable[[], None]) -> None:
    """Starts the replicas in a running Ray and waits until all are warm.

    Args:
        config: how many, and for which batches.
        model: what they serve.
        go_on: called again and again meanwhile; what it raises ends the wait.

    Raises:
        StartError: a replica could not start. Unless it refused the artifact, its own traceback is
            in the notes.
    """
    # Its other messages on the terminal are of its own inner life; it also has them in its files.
    logging.getLogger("ray.serve").setLevel(logging.ERROR)
    # A line a request in a file is of use to nobody, as the file goes with the gateway.
    logs = LoggingConfig(enable_access_log=False)
    serve.start(proxy_location="Disabled", logging_config=logs)
    deployment = serve.deployment(
        name=Replica.__name__,
        num_replicas=config.replicas,
        max_ongoing_requests=MAX_ONGOING_REQUESTS,
        max_queued_requests=MAX_QUEUED_REQUESTS,
        health_check_period_s=HEALTH_CHECK_PERIOD_S,
        # What keeps one from starting is in the artifact or the machine, and there the next time.
        max_constructor_retry_count=1,
        ray_actor_options={"num_cpus": 1},
        logging_config=logs,
    )(Replica)
    application = deployment.bind(model, config.framework, config.max_batch_size)
    target = serve.RunTarget(application, name=APPLICATION, route_prefix=None)
    serve.run_many([target], wait_for_applications_running=False)
    _wait_until_running(go_on)


def _wait_until_running(go_on: Callable[[], None]) -> None:
    """As `serve.run` waits, which looks once in a second and hears nothing meanwhile."""
    while (overview := serve.status().applications[APPLICATION]).status != "RUNNING":
        go_on()
        if overview.status in ("DEPLOY_FAILED", "UNHEALTHY"):
            raise _start_error(overview)
        time.sleep(STATUS_PERIOD_S)


def _start_error(overview: ApplicationStatusOverview) -> StartError:
    """The cause of a failed deployment, which Serve keeps in its status."""
    messages = [deployment.message for deployment in overview.deployments.values()]
    details = "\n".join(messages).strip() or overview.message
    _, refused, reason = details.rpartition(_REFUSED)
    if refused:
        return StartError(reason)
    start_error = StartError(f"a replica could not start: {details.splitlines()[-1]}")
    start_error.add_note(details)
    return start_error


@asynccontextmanager
async def connected() -> AsyncIterator[Predict]:
    """A function that calls the deployed replicas, from the running event loop and no other."""
    handle = serve.get_app_handle(APPLICATION)
    # The router shares the gateway's event loop: two thread switches less, 0.3 ms of a request.
    handle._init(_run_router_in_separate_loop=False)
    try:
        yield _predict_by(handle)
    finally:
        await handle.shutdown_async()


def _predict_by(handle: DeploymentHandle) -> Predict:
    by_reference = handle.options(method_name="predict")
    # Straight through the replica's own gRPC port: 1.3 ms less than a Ray task with an object.
    by_value = handle.options(
        method_name="predict",
        _by_reference=False,
        request_serialization="pickle",
        response_serialization="pickle",
    )

    async def predict(batch: np.ndarray) -> np.ndarray:
        large = batch.nbytes >= BY_REFERENCE_MIN_BYTES
        response = (by_reference if large else by_value).remote(batch)
        try:
            return await response
        except asyncio.CancelledError:
            response.cancel()
            raise
        except BackPressureError as error:
            raise OverloadedError("too many requests are waiting; try again later") from error
        except (DeploymentUnavailableError, ray.exceptions.RayActorError) as error:
            raise UnavailableError("the model's replica is not available; try again") from error

    return predict
