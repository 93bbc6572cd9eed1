"""What a server of the comparison is told: a model, as JSON, so that any environment reads it.

Other projects' servers live in an environment of their own, whose protobuf our descriptors do not
work with. What they need of ours, the network and PyTorch, is found behind their own packages.
"""

import json
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

# Examples that a server with batches computes at once, at most, the same for all.
MAX_BATCH_SIZE = 64


class Job(NamedTuple):
    """A model to serve.

    Attributes:
        name: Of the model, under which it is asked.
        architecture: Of the network.
        config: Of the network, as its architecture has it.
        weights: A .npz file of canonical float32 weights.
        input: Name of the input.
        input_shape: Of one example, float32.
        output: Name of the output.
        path: Where Python finds our sources and PyTorch, after what the server has itself.
    """

    name: str
    architecture: str
    config: dict[str, Any]
    weights: str
    input: str
    input_shape: Sequence[int]
    output: str
    path: Sequence[str]


def write_job(job: Job, file: Path) -> None:
    """Writes a job down for `read_job`."""
    file.write_text(json.dumps(job._asdict()))


def read_job(file: str) -> Job:
    """Reads a job."""
    return Job(**json.loads(Path(file).read_text()))


def predict_of(job: Job) -> Callable[[Any], Any]:
    """Builds what every server of the comparison calls, on one thread: a batch to its answers.

    It is what a replica of ours calls too: models/torch/predict.py. Arrays are numpy's, float32.
    """
    sys.path.extend(entry for entry in job.path if entry not in sys.path)
    # By name, since a program finds the packages of all that its targets import: a target that
    # imported these would put the whole of our environment before other projects' own.
    numpy = import_module("numpy")
    parse_model = import_module("models.architecture").parse_model
    predict_fn = import_module("models.torch.predict").predict_fn
    import_module("torch").set_num_threads(1)
    with numpy.load(job.weights) as weights:
        predict: Callable[[Any], Any] = predict_fn(
            parse_model(job.architecture, job.config), dict(weights)
        )
    predict(numpy.zeros([1, *job.input_shape], numpy.float32))
    return predict
