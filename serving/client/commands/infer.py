"""`infer`: one request, from a file."""

from typing import Annotated

import typer

from registry.commands.output import emit
from serving.client.commands.documents import Request, Spec, only, request_from
from serving.client.commands.input_files import Arrays, Document, Given, Image, read_input
from serving.client.commands.options import (
    DEFAULT_ADDRESS,
    DEFAULT_REST_ADDRESS,
    Address,
    AsJson,
    TimeoutS,
    Version,
)
from serving.client.commands.showing import (
    drawn_classes,
    drawn_predictions,
    drawn_result,
    facts_of,
    save_arrays,
)
from serving.client.prediction import predict_image
from serving.client.sync import InferenceClient

Input = Annotated[
    str,
    typer.Option(
        "--input",
        "--image",
        metavar="FILE",
        help=".npy; .npz for several inputs; JSON; PNG or JPEG, by REST; - for standard input.",
    ),
]
Output = Annotated[
    str | None, typer.Option("--output", metavar="FILE.npz", help="Write the outputs there.")
]
Outputs = Annotated[
    list[str] | None,
    typer.Option("--only", metavar="NAME", help="Of an output that is wanted; repeatable."),
]
TopK = Annotated[
    int,
    typer.Option(min=0, help="Ask the server for so many classes, by name if it knows them."),
]


def infer(
    input_file: Input,
    model: Annotated[str, typer.Option(help="Name of the model; for a picture optional.")] = "",
    version: Version = "",
    only_outputs: Outputs = None,
    top_k: TopK = 0,
    output_file: Output = None,
    request_id: Annotated[str, typer.Option(help="Comes back with the answer.")] = "",
    priority: Annotated[int, typer.Option(min=0, help="1 is the most urgent; 0 as usual.")] = 0,
    address: Address = DEFAULT_ADDRESS,
    rest_address: Annotated[
        str, typer.Option(metavar="HOST:PORT", help="The server, by REST.")
    ] = DEFAULT_REST_ADDRESS,
    timeout_s: TimeoutS = 30.0,
    as_json: AsJson = False,
) -> None:
    """Send a file to a model and print what it answers."""
    given = read_input(input_file)
    if isinstance(given, Image):
        if address != DEFAULT_ADDRESS and rest_address == DEFAULT_REST_ADDRESS:
            raise ValueError("a picture goes by REST; give --rest-address in place of --address")
        if output_file or only_outputs:
            raise ValueError("a picture goes by REST, which has neither --output nor --only")
        reply = predict_image(
            rest_address,
            given.content,
            model=model,
            version=version,
            top_k=top_k,
            timeout_s=timeout_s,
        )
        emit(reply, drawn_predictions(reply), as_json)
        return
    if not model:
        raise ValueError("--model is missing; the command index lists the models of a server")
    with InferenceClient(address, timeout_s) as client:
        request = request_of(client, given, model, version)
        wanted = only_outputs or list(request.outputs)
        if top_k and not wanted:
            wanted = [spec.name for spec in client.model_metadata(model, version).outputs]
        result = client.infer(
            model,
            request.inputs,
            version=version,
            outputs={name: {"classification": top_k} for name in wanted}
            if top_k
            else only_outputs or request.outputs,
            request_id=request_id or request.request_id,
            priority=priority,
            parameters=request.parameters,
        )
    if output_file:
        save_arrays(output_file, result.outputs)
    emit(facts_of(result), drawn_classes(result) if top_k else drawn_result(result), as_json)


def request_of(client: InferenceClient, given: Given, model: str, version: str) -> Request:
    """What a file asks for; the model is asked for its signature where the file lacks it.

    Raises:
        ValueError: the file does not fit the model, or is a picture.
        InferenceError: the model has no signature to tell.
    """
    if isinstance(given, Arrays):
        return Request(given.arrays)
    if isinstance(given, Image):
        raise ValueError("a picture goes by REST; give arrays or JSON")
    inputs = client.model_metadata(model, version).inputs
    specs = [Spec(spec.name, spec.datatype) for spec in inputs]
    if isinstance(given, Document):
        return request_from(given.value, specs)
    return Request({only(specs).name: given.array})
