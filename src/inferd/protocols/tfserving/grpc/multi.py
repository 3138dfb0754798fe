"""``MultiInference``: several models or signatures asked about the same examples, answered together.

Format: tensorflow_serving/apis/inference.proto. Each task goes through the endpoint of its own method.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from inferd.abc import Endpoint, Exchange
from inferd.core.errors import InvalidRequest
from inferd.protocols.grpc.exchange import OK, GrpcExchange
from inferd.protocols.grpc.schema import message_class, read_message
from inferd.protocols.grpc.service import refuse

_PACKAGE = "tensorflow.serving"
_METHODS = {
    "tensorflow/serving/classify": ("Classification", "classification_result"),
    "tensorflow/serving/regress": ("Regression", "regression_result"),
}
MAX_TASKS = 32


class MultiEndpoint:
    """``endpoints`` are those of ``Classify`` and ``Regress``, by method name."""

    def __init__(self, endpoints: Mapping[str, Endpoint]) -> None:
        self._endpoints = endpoints
        self._running: set[asyncio.Task[None]] = set()

    def handle(self, exchange: Exchange) -> None:
        """Answer ``exchange`` later; never raises."""
        try:
            request = read_message(f"{_PACKAGE}.MultiInferenceRequest", exchange.body)
            if not 0 < len(request.tasks) <= MAX_TASKS:
                raise InvalidRequest(f"the request has {len(request.tasks)} tasks; 1 to {MAX_TASKS} are taken")
            for each in request.tasks:
                _check(each)
            parts = [self._start(exchange, each, request.input) for each in request.tasks]
        except Exception as error:
            self.refuse(exchange, error)
            return
        task = asyncio.get_running_loop().create_task(self._finish(exchange, parts))
        exchange.on_disconnect = task.cancel
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    def refuse(self, exchange: Exchange, error: Exception) -> None:
        """Answer with ``error``."""
        refuse(exchange, error)

    def _start(self, exchange: Exchange, task: Any, examples: Any) -> tuple[str, GrpcExchange]:
        """Hand one task to its endpoint; returns the kind of its result, and its exchange."""
        kind, _ = _METHODS[task.method_name]
        request = message_class(f"{_PACKAGE}.{kind}Request")(model_spec=task.model_spec, input=examples)
        part = GrpcExchange(
            exchange.path, exchange.headers, request.SerializeToString(), request_id=exchange.request_id
        )
        part.principal = exchange.principal
        self._endpoints[task.method_name].handle(part)
        return task.method_name, part

    async def _finish(self, exchange: Exchange, parts: list[tuple[str, GrpcExchange]]) -> None:
        """Put the results together; the first error is everybody's. What still runs at the end is given up: the caller
        has left."""
        try:
            response = message_class(f"{_PACKAGE}.MultiInferenceResponse")()
            for _, part in parts:
                await part.answered()
            failed = next((part for _, part in parts if part.status != OK), None)
            if failed is not None:
                exchange.respond(failed.status, failed.answer_headers, failed.answer)
                return
            for method, part in parts:
                kind, member = _METHODS[method]
                answer = read_message(f"{_PACKAGE}.{kind}Response", part.answer)
                result = response.results.add(model_spec=answer.model_spec)
                getattr(result, member).CopyFrom(answer.result)
            exchange.respond(200, b"", response.SerializeToString())
        except Exception as error:
            self.refuse(exchange, error)
        finally:
            for _, part in parts:
                part.leave()


def _check(task: Any) -> None:
    if task.method_name not in _METHODS:
        raise InvalidRequest(
            f"method_name is {task.method_name[:100]!r}; a task's is one of {', '.join(map(repr, _METHODS))}"
        )
