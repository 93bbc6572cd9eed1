"""What became of a call of AsyncInferenceClient, for load.py."""

import grpc

from serving.client.errors import InferenceError
from serving.client.load import Status, answered_or_failed
from serving.client.results import InferResult

_OF_CODE = {
    grpc.StatusCode.RESOURCE_EXHAUSTED: Status.REFUSED,
    grpc.StatusCode.UNAVAILABLE: Status.REFUSED,
    grpc.StatusCode.DEADLINE_EXCEEDED: Status.LATE,
    grpc.StatusCode.CANCELLED: Status.LOST,
}


def status_of(outcome: object) -> Status:
    """Classifies what `infer` returned, or the exception that it raised."""
    if isinstance(outcome, InferResult):
        return Status.RETRIED if outcome.attempts > 1 else Status.ANSWERED
    if isinstance(outcome, InferenceError):
        if outcome.connection_lost:
            return Status.LOST
        return _OF_CODE.get(outcome.code, Status.FAILED)
    return answered_or_failed(outcome)
