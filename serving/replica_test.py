"""A replica by itself: its loop stays free, and it needs neither Ray nor gRPC."""

import asyncio
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np
import pytest

from registry.artifact import publish, read_descriptor
from registry.example import example_artifact, example_tensors
from serving import replica
from serving.errors import RefusedArtifactError
from serving.example import WAIT_S, example_images, publish_example
from serving.model import ServedModel, served_model
from serving.replica import Replica

MAX_BATCH_SIZE = 4


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> ServedModel:
    loaded = publish_example(tmp_path_factory.mktemp("registry") / "artifact")
    return served_model(read_descriptor(loaded.directory))


class Blocked:
    """A network that, once warm, computes only when it is let, and remembers sizes of batches."""

    def __init__(self) -> None:
        self.running, self.go_on = threading.Event(), threading.Event()
        self.warm = False
        self.computed: list[int] = []

    def __call__(self, batch: np.ndarray) -> np.ndarray:
        if self.warm:
            self.computed.append(len(batch))
            self.running.set()
            assert self.go_on.wait(WAIT_S)
        return batch


@pytest.fixture
def blocked(monkeypatch: pytest.MonkeyPatch) -> Blocked:
    network = Blocked()
    monkeypatch.setattr(replica, "predictor", lambda loaded, framework: network)
    return network


def test_loop_answers_and_cancels_while_a_computation_runs(
    model: ServedModel, blocked: Blocked
) -> None:
    served = Replica(model, None, MAX_BATCH_SIZE)
    blocked.warm = True

    async def requests() -> list[object]:
        first, second, third = (
            asyncio.create_task(served.predict(example_images(size))) for size in (1, 2, 3)
        )
        # Each step below is one of the loop, while the network is in the midst of the first batch.
        await asyncio.to_thread(blocked.running.wait, WAIT_S)
        second.cancel()
        await asyncio.wait([second])
        assert not first.done()
        blocked.go_on.set()
        return await asyncio.gather(first, second, third, return_exceptions=True)

    one, two, three = asyncio.run(requests())
    np.testing.assert_array_equal(one, example_images(1))
    assert isinstance(two, asyncio.CancelledError)
    np.testing.assert_array_equal(three, example_images(3))
    assert blocked.computed == [1, 3]


@pytest.mark.parametrize("max_batch_size", [1, 6])
def test_once_ready_it_compiles_nothing(
    model: ServedModel, compilations: list[str], max_batch_size: int
) -> None:
    served = Replica(model, "flax", max_batch_size)
    before = len(compilations)
    assert before  # the list does fill

    async def every_size() -> None:
        for batch_size in range(1, max_batch_size + 1):
            await served.predict(example_images(batch_size))

    asyncio.run(every_size())
    assert compilations[before:] == []


@pytest.fixture
def compilations() -> Iterator[list[str]]:
    """A name for each program that XLA has compiled in this process, kept up to date."""
    events: list[str] = []

    def listen(event: str, duration_s: float, **_: object) -> None:
        if event == "/jax/core/compile/backend_compile_duration":
            events.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    yield events
    jax.monitoring.unregister_event_duration_listener(listen)


def refuse(model: ServedModel) -> str:
    with pytest.raises(RefusedArtifactError) as error:
        Replica(model, None, MAX_BATCH_SIZE)
    return str(error.value)


def test_other_artifact_than_the_one_to_serve_is_refused(model: ServedModel) -> None:
    message = refuse(model._replace(digest="0" * 64))
    assert message.endswith(f"is not the artifact {'0' * 64} that was to be served")


def test_weights_of_another_model_are_refused(tmp_path: Path) -> None:
    publish(tmp_path / "artifact", example_artifact(), example_tensors())
    message = refuse(served_model(read_descriptor(tmp_path / "artifact")))
    assert message.startswith(
        "weights do not fit the model: embedding.projection.weight is missing"
    )


@pytest.mark.parametrize("framework", ["flax", "torch"])
def test_it_needs_neither_ray_nor_grpc(model: ServedModel, framework: str) -> None:
    # Ray brings both into the process that runs a replica; nothing of ours asks for them there.
    program = (
        "import asyncio, sys\n"
        "from pathlib import Path\n"
        "import numpy as np\n"
        "from registry.artifact import read_descriptor\n"
        "from serving.model import served_model\n"
        "from serving.replica import Replica\n"
        f"model = served_model(read_descriptor(Path({str(model.directory)!r})))\n"
        f"served = Replica(model, {framework!r}, 3)\n"
        "logits = asyncio.run(served.predict(np.zeros((3, 8, 8, 1), np.float32)))\n"
        "assert logits.shape == (3, 10)\n"
        "packages = {name.partition('.')[0] for name in sys.modules}\n"
        "print(sorted(packages & {'ray', 'grpc', 'grpc_health', 'inference', 'jax', 'torch'}))\n"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert ran.stdout == f"{[{'flax': 'jax', 'torch': 'torch'}[framework]]}\n", ran.stderr
