"""Callers of gateways behind one address, who ask all the time and check every answer."""

import http.client
import json
import time
from collections.abc import Callable
from contextlib import closing
from threading import Event
from typing import NamedTuple

import numpy as np

from serving.client.retries import RetryPolicy
from serving.client.sync import InferenceClient

HTTP, GRPC = "127.0.0.1:8000", "127.0.0.1:8001"
INFER = "/v2/models/digits/infer"

# The frameworks sum in different orders.
ATOL = 1e-4

# Longer than any answer takes here.
_ANSWER_S = 30.0
# Between an answer and the next question.
_PAUSE_S = 0.02

# What a model answers to images, (n, 8, 8, 1) float32.
Predict = Callable[[np.ndarray], np.ndarray]


class Call(NamedTuple):
    """A request that ended.

    Attributes:
        began: By the monotonic clock, seconds.
        took_s: Until its answer.
        fault: What was wrong with it, or nothing.
    """

    began: float
    took_s: float
    fault: str


class Asking(NamedTuple):
    """What somebody who asks all the time is told.

    Attributes:
        predict: What the model answers to images.
        seed: Of the images.
        stop: Ends it.
        done: Where each call goes when it has ended.
    """

    predict: Predict
    seed: int
    stop: Event
    done: list[Call]


def images(count: int, seed: int) -> np.ndarray:
    """Images that nobody has asked about before, (count, 8, 8, 1)."""
    levels = np.random.default_rng(seed).integers(0, 256, (count, 8, 8, 1))
    return (levels / 255).astype(np.float32)


def post(connection: http.client.HTTPConnection, path: str, content: object) -> dict:
    connection.request("POST", path, json.dumps(content), {"Content-Type": "application/json"})
    reply = connection.getresponse()
    body = reply.read()
    assert reply.status == 200, (reply.status, body)
    return dict(json.loads(body))


def tensor(image: np.ndarray) -> dict:
    described = {"name": "image", "shape": image.shape, "datatype": "FP32"}
    return {"inputs": [{**described, "data": image.ravel().tolist()}]}


def ask_grpc(asking: Asking) -> None:
    with InferenceClient(GRPC, _ANSWER_S, retry=RetryPolicy(max_attempts=1)) as client:
        ask(lambda image: client.infer("digits", {"image": image})["logits"], asking)


def ask_http(asking: Asking) -> None:
    with closing(http.client.HTTPConnection(HTTP, timeout=_ANSWER_S)) as connection:
        ask(lambda image: post(connection, INFER, tensor(image))["outputs"][0]["data"], asking)


def ask(call: Callable[[np.ndarray], object], asking: Asking) -> None:
    """Asks about three images at a time, hardly ever about the same ones, and checks answers."""
    known = images(256, asking.seed + 100)
    expected = asking.predict(known)
    rng = np.random.default_rng(asking.seed)
    while not asking.stop.is_set():
        chosen = rng.integers(len(known), size=3)
        began, fault = time.monotonic(), ""
        try:
            logits = np.asarray(call(known[chosen])).ravel()
            if not np.allclose(logits, expected[chosen].ravel(), atol=ATOL, rtol=0):
                fault = "another answer than the model's"
        except Exception as error:
            fault = repr(error)
        asking.done.append(Call(began, time.monotonic() - began, fault))
        asking.stop.wait(_PAUSE_S)
