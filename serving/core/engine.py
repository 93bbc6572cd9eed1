"""The one way of a request through the gateway, whatever protocol it came by.

Which model, admission, the cache, a batch, the answer; and one report of what became of it.
"""

import asyncio
import time
from collections.abc import Callable

from serving.core.admission import Admission
from serving.core.cache import Expected, ResponseCache, cache_key
from serving.core.catalog import Catalog, ModelState, Served
from serving.core.errors import Kind, ServingError
from serving.core.gate import late
from serving.core.incidents import incident
from serving.core.model import ServedModel
from serving.core.outcome import Observer, Outcome
from serving.core.request import Answer, Arrays, Call, Inputs, Timings
from serving.core.waiter import Part


class _NonfiniteError(Exception):
    """An answer with infinite values or NaN: to a cache it is an error, which is never kept.

    So it is told, counted and judged by the model's policy each time, by every gateway.
    """

    def __init__(self, outputs: Arrays) -> None:
        super().__init__()
        self.outputs = outputs


class Engine:
    """Answers requests for the models of a catalog. It is used from one event loop.

    Args:
        catalog: The models; whoever loads and unloads them changes it.
        admission: Which requests are taken.
        observer: Is told of every request, once it is over.
        cache: Of answers; None: each request is computed.
        starting: It reports unready until `started`, since more models are to come.
    """

    def __init__(
        self,
        catalog: Catalog,
        admission: Admission,
        observer: Observer,
        cache: ResponseCache | None = None,
        *,
        starting: bool = False,
    ) -> None:
        self._catalog = catalog
        self._admission = admission
        self._observer = observer
        self._cache = cache
        self.draining = False
        self._starting = starting

    def find(self, name: str, version: str = "") -> ServedModel:
        """A model that is served, whether it answers now or not.

        Raises:
            ServingError: NOT_FOUND; the message says what there is.
        """
        return self._catalog.find(name, version).model

    def default_model(self) -> ServedModel:
        """The model of a request that names none: the first one that is served.

        Raises:
            ServingError: NOT_FOUND: there is none yet.
        """
        return self.find(next(iter(self._catalog.names()), ""))

    def models(self) -> list[ModelState]:
        """Every version, and whether it answers."""
        return [served.state() for served in self._catalog.all()]

    def why_not_ready(self, name: str, version: str = "") -> str | None:
        """Why a model does not answer; None: it does.

        Raises:
            ServingError: NOT_FOUND.
        """
        state = self._catalog.find(name, version).state()
        return "the server is shutting down" if self.draining else state.reason or None

    def server_why_not_ready(self) -> str | None:
        """Why not every model answers; None: all do."""
        if self.draining:
            return "the server is shutting down"
        states = self.models()
        if not states:
            return "no model is loaded yet"
        reasons = [f"{s.model.name} {s.model.version}: {s.reason}" for s in states if s.reason]
        if self._starting and not reasons:
            return "the server is starting"
        return "; ".join(reasons) or None

    def subscribe(self, changed: Callable[[], None]) -> Callable[[], None]:
        """Has `changed` called after each change of what there is or answers.

        Returns:
            A function that ends that.
        """
        return self._catalog.subscribe(changed)

    def started(self) -> None:
        """Reports ready from now on, as far as its models are."""
        self._starting = False
        self._catalog.notify()

    def drain(self) -> None:
        """Reports unready from now on, and still answers."""
        self.draining = True
        self._catalog.notify()

    def refuse(self, call: Call, error: ServingError) -> None:
        """Reports a request that was refused before it was known whom it asks, or what.

        Args:
            call: As far as it is known; without a model.
            error: Why it was refused.
        """
        now = time.monotonic()
        self._observer.done(
            Outcome(
                call=call,
                known=False,
                version="",
                error=error,
                answer=None,
                started=now,
                ended=now,
            )
        )

    async def infer(self, call: Call, decode: Callable[[ServedModel], Inputs]) -> Answer:
        """Answers a request.

        Args:
            call: What is known before its tensors are read.
            decode: Reads its tensors, once the request is admitted.

        Raises:
            ServingError: It was not answered, and nothing but this is ever raised.
        """
        started = time.monotonic()
        served: Served | None = None
        answer: Answer | None = None
        error: ServingError | None = None
        retries = batch_size = 0
        nonfinite = False
        try:
            served = self._catalog.find(call.model, call.version)
            self._admission.enter(call, served.model)
            try:
                inputs = decode(served.model)
                batch_size = inputs.batch_size
                if self._cache is None:
                    part = await served.batcher.compute(call, inputs)
                else:
                    part = await self._cached(self._cache, served, call, inputs)
                retries, nonfinite = part.retries, part.nonfinite
                model = served.model
                answer = Answer(model.name, model.version, part.outputs, part.timings)
                return answer
            finally:
                self._admission.leave(call)
        except ServingError as refusal:
            error = refusal
            raise
        except asyncio.CancelledError:
            error = ServingError(Kind.CANCELLED, "the caller went away")
            raise
        except Exception as fault:
            error = incident(fault)
            raise error from fault
        finally:
            self._observer.done(
                Outcome(
                    call=call,
                    known=served is not None,
                    version=served.model.version if served else "",
                    error=error,
                    answer=answer,
                    started=started,
                    ended=time.monotonic(),
                    batch_size=batch_size,
                    retries=retries,
                    nonfinite=nonfinite,
                )
            )
            # An error holds this frame, and so would hold itself and the request in memory.
            error = None

    async def _cached(
        self, cache: ResponseCache, served: Served, call: Call, inputs: Inputs
    ) -> Part:
        """What is known, or is computed for this caller and all who ask the same meanwhile."""
        model, computed = served.model, list[Part]()

        async def compute() -> Arrays:
            computed.append(await served.batcher.compute(call, inputs))
            if computed[0].nonfinite:
                raise _NonfiniteError(computed[0].outputs)
            return computed[0].outputs

        key = cache_key(model.name, model.version, model.digest, inputs)
        by_name = {spec.name: spec for spec in model.outputs}
        expected = Expected(tuple(by_name[name] for name in inputs.outputs), inputs.batch_size)
        try:
            # The computation may be another caller's, with more time than this one has.
            async with asyncio.timeout(call.deadline - time.monotonic()):
                outputs, is_known = await cache.get_or_compute(key, compute, expected)
        except TimeoutError:
            raise late() from None
        except _NonfiniteError as answer:
            if computed:
                return computed[0]
            return Part(answer.outputs, Timings(cached=True), nonfinite=True)
        if computed and not is_known:
            return computed[0]._replace(outputs=outputs)
        return Part(outputs, Timings(cached=True))
