"""`POST /predict` of our gateway's REST port, which decodes pictures. Other servers have none."""

import base64
import http.client
import json
from typing import Any

import grpc

from serving.client.connection import checked_address, checked_timeout
from serving.client.errors import BAD_INPUT, InferenceError
from serving.protocols.statuses import STATUSES

_CODES = {status.http: status.grpc for status in STATUSES.values()}
_MAX_REPLY_BYTES = 64 * 2**20


def predict_image(
    address: str,
    image: bytes,
    *,
    model: str = "",
    version: str = "",
    top_k: int = 0,
    timeout_s: float = 30.0,
) -> dict[str, Any]:
    """Asks about a picture.

    Args:
        address: `host:port` of REST. The environment's proxy is not used.
        image: the bytes of a PNG or JPEG file.
        model: its name; "": the first one that is served.
        version: of it; "": the server chooses.
        top_k: how many classes are told; 0: the server chooses.
        timeout_s: that the server is given, and each read from it.

    Returns:
        The reply.

    Raises:
        InferenceError: the server refused, failed, could not be reached, or answered something else
            than a JSON object; with the gRPC status that its HTTP status stands for.
        ValueError: the address or the timeout is none.
    """
    request = {"image": base64.b64encode(image).decode(), "model": model, "version": version}
    body = {name: value for name, value in request.items() if value}
    content = json.dumps(body | ({"top_k": top_k} if top_k else {}))
    timeout_ms = max(1, int(checked_timeout(timeout_s) * 1e3))
    headers = {"Content-Type": "application/json", "x-request-timeout-ms": str(timeout_ms)}
    connection = http.client.HTTPConnection(checked_address(address), timeout=timeout_s)
    try:
        connection.request("POST", "/predict", content, headers)
        response = connection.getresponse()
        reply = response.read(_MAX_REPLY_BYTES)
    except TimeoutError as error:
        message = f"{address}: no answer within {timeout_s:g} s"
        raise InferenceError(grpc.StatusCode.DEADLINE_EXCEEDED, message) from error
    except http.client.HTTPException as error:
        message = f"{address}: no REST there; is that the port of gRPC?"
        raise InferenceError(grpc.StatusCode.UNAVAILABLE, message) from error
    except OSError as error:
        message = f"{address}: no REST there: {error.strerror or error}"
        raise InferenceError(grpc.StatusCode.UNAVAILABLE, message) from error
    finally:
        connection.close()
    return _read(address, response.status, reply)


def _read(address: str, status: int, reply: bytes) -> dict[str, Any]:
    try:
        parsed = json.loads(reply)
    except ValueError:
        parsed = None
    if not isinstance(parsed, dict):
        message = f"{address}: the reply with status {status} is no JSON object"
        raise InferenceError(grpc.StatusCode.INTERNAL, message)
    if status != http.HTTPStatus.OK:
        code = _CODES.get(status, grpc.StatusCode.UNKNOWN)
        where = "" if code in BAD_INPUT else f"{address}: "
        raise InferenceError(code, f"{where}{parsed.get('error', parsed)} (HTTP {status})")
    return parsed
