"""Ray Serve's applications: one for each version that a gateway serves. All of it blocks.

Serve's proxies are not started, and its handles are not used: it places, checks, ends and replaces.
"""

import logging
import re
from typing import Any, NamedTuple

from ray import serve
from ray.serve.exceptions import RayServeException
from ray.serve.schema import ApplicationStatus, LoggingConfig

from serving.control.ending import end_application
from serving.control.hosting import HostedModel, Hosting
from serving.control.options import RayConfig
from serving.control.scaling import autoscaling
from serving.core.model import ServedModel

# A replica that has died is noticed, and another started, after this and not after Serve's 10 s.
HEALTH_CHECK_PERIOD_S = 1.0

# One that does not answer is taken for dead after three of these; Serve's own 30 s are long. Its
# channels are closed by their own silence before that.
HEALTH_CHECK_TIMEOUT_S = 5.0

# Beside what a replica takes to answer what it has.
_SHUTDOWN_S = 5.0

# A replica has no requests in Serve's sense, so Serve need not wait for their end.
_SHUTDOWN_LOOP_S = 0.05

# What Serve and its processes' names bear, and paths too.
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_.-]+")


class Status(NamedTuple):
    """What Serve says of an application.

    Attributes:
        has_failed: It has given up to start it.
        message: Of Serve's, several lines of it; "" if there is nothing to say.
    """

    has_failed: bool
    message: str


NOTHING_SAID = Status(False, "")


def application_name(gateway: str, model: ServedModel, number: int) -> str:
    """Returns the name of an application: of this gateway, of a version, and of no other time.

    Args:
        gateway: The gateway's name.
        model: What is served.
        number: How many the gateway has had before.
    """
    words = (gateway, model.name, model.version, model.digest[:12], str(number))
    return "-".join(_NOT_IN_NAMES.sub("_", word) for word in words)


def deploy(model: ServedModel, hosting: Hosting, config: RayConfig) -> None:
    """Has Serve start an application, or start it anew; returns before anything has started.

    Args:
        model: What is served.
        hosting: How, and how many.
        config: What each reserves of Ray, and when there are more or fewer.
    """
    # Its other messages on the terminal are of its own inner life; it also has them in its files.
    logging.getLogger("ray.serve").setLevel(logging.ERROR)
    # A line a request, of which there are none but health checks.
    logs = LoggingConfig(enable_access_log=False)
    serve.start(proxy_location="Disabled", logging_config=logs)
    deployment = serve.deployment(
        name=HostedModel.__name__,
        **_number(hosting, config),
        health_check_period_s=HEALTH_CHECK_PERIOD_S,
        health_check_timeout_s=HEALTH_CHECK_TIMEOUT_S,
        graceful_shutdown_timeout_s=hosting.drain_s + _SHUTDOWN_S,
        graceful_shutdown_wait_loop_s=_SHUTDOWN_LOOP_S,
        # What keeps one from starting is in the artifact or the machine, and there the next time.
        max_constructor_retry_count=1,
        ray_actor_options={"num_cpus": config.cpus_per_replica},
        logging_config=logs,
    )(HostedModel)
    application = deployment.bind(model, hosting)
    target = serve.RunTarget(application, name=hosting.application, route_prefix=None)
    serve.run_many(
        [target], wait_for_applications_running=False, wait_for_ingress_deployment_creation=False
    )


def _number(hosting: Hosting, config: RayConfig) -> dict[str, Any]:
    """How many replicas there are, in Serve's options."""
    if hosting.max_replicas == hosting.replicas:
        return {"num_replicas": hosting.replicas}
    up_after_s, down_after_s = config.scale_up_after_s, config.scale_down_after_s
    return {
        "autoscaling_config": autoscaling(
            hosting.replicas, hosting.max_replicas, up_after_s, down_after_s
        )
    }


def status(application: str) -> Status:
    """Returns what Serve says of an application."""
    found = serve.status().applications.get(application)
    if found is None:
        return NOTHING_SAID
    messages = [deployment.message for deployment in found.deployments.values()]
    message = "\n".join(filter(None, messages)).strip() or found.message
    return Status(found.status == ApplicationStatus.DEPLOY_FAILED, message)


def delete_all(gateway: str) -> None:
    """Has Serve end every application of a gateway, and returns when it has begun to."""
    try:
        mine = [name for name in serve.status().applications if name.startswith(f"{gateway}-")]
        for name in mine:
            end_application(name)
        serve.status()  # Serve answers in order, so what came before has arrived.
    except RayServeException:
        return  # Serve does not run: nothing was ever deployed
