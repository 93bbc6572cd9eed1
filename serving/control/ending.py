"""How an application ends: by its gateway, or by its own replicas when that gateway is no more."""

import ray._private.state as ray_state
from ray import serve

from serving.control import announcements


def end_application(application: str) -> None:
    """Has Serve end an application, whose replicas answer what they have first."""
    serve.delete(application, _blocking=False)
    announcements.forget(application)


def has_ended(job: str) -> bool:
    """Whether a gateway is no more, however it has ended, or its machine.

    Args:
        job: The gateway's, as Ray knows it.
    """
    return any(known["JobID"] == job and known["IsDead"] for known in ray_state.jobs())
