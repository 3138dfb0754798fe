"""The python runtime: a user's class or function with ``predict`` is a model."""

from __future__ import annotations

import asyncio
import inspect
import platform
import sys
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Mapping, Sequence
from contextlib import closing
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from inferd.abc import Model, ModelMetadata
from inferd.core.config import ModelConfig
from inferd.core.errors import InvalidInput, LoadFailed
from inferd.core.plugins import API_VERSION
from inferd.core.tensors import Signature, TensorSpec
from inferd.runtimes.annotations import (
    Argument,
    arguments_of,
    bind,
    collect,
    declared_specs,
    require_rows,
    results_of,
    takes_parameters,
)
from inferd.runtimes.user_code import import_file, loading

HOOKS_FILE = "hooks.py"


class PythonRuntime:
    """Loads ``file.py``, ``file.py:Name``, ``module:Name``, and live objects given as ``config.options["object"]``."""

    api_version = API_VERSION
    name = "python"
    extra = ""
    takes = ".py"

    def claims(self, artefact: Path) -> bool:
        """A target with a colon, or a Python file that is not the hooks of another artefact."""
        file, _, name = artefact.name.rpartition(":")
        return name.isidentifier() if file else artefact.suffix == ".py" and artefact.name != HOOKS_FILE

    def load(self, config: ModelConfig, artefact: Path, device: str) -> Model:
        """Import, instantiate, call the user's ``load``. Raises ``LoadFailed`` with file, line and reason."""
        target = config.options.get("object")
        if target is None:
            target, folder, file = _resolve(artefact)
        else:
            folder, file = None, getattr(target, "__name__", type(target).__name__)
        return _build(target, folder, file, config)


RUNTIME = PythonRuntime()


class PythonModel:
    """A user's ``predict``, with ``preprocess`` before and ``postprocess`` after it where they are defined.

    ``max_concurrency`` says how many threads may usefully call ``execute`` at once.
    """

    user_code = True

    def __init__(
        self,
        stages: Sequence[Callable[..., Any]],
        arguments: tuple[Argument, ...],
        signature: Signature,
        *,
        batchable: bool,
        concurrent: bool,
        loop: PrivateLoop | None,
        yielding: int | None = None,
    ) -> None:
        """``yielding`` is the place among ``stages`` of the one that yields, None when all return."""
        self.signatures: Mapping[str, Signature] = {signature.name: signature}
        self.metadata = ModelMetadata(runtime_version=platform.python_version(), platform="python")
        self.batchable = batchable
        self.concurrent = concurrent
        self.max_concurrency = loop.max_concurrency if loop else 1
        self.streaming = yielding is not None
        self._stages = stages
        self._yielding = yielding or 0
        self._arguments = arguments
        self._results = signature.outputs
        self._takes_parameters = takes_parameters(stages[0])
        self._loop = loop

    def execute(
        self,
        inputs: Mapping[str, np.ndarray],
        outputs: Sequence[str],
        parameters: Mapping[str, Any],
        signature: str,
    ) -> Mapping[str, np.ndarray]:
        """Run the user's code on one batch; its exceptions pass through. ``ExecutionFailed`` for a wrong result."""
        if self.streaming:
            return only_response(self.stream(inputs, outputs, parameters, signature))
        return self._collect(self._run(self._stages, self._bind(inputs, parameters)), outputs)

    def stream(
        self,
        inputs: Mapping[str, np.ndarray],
        outputs: Sequence[str],
        parameters: Mapping[str, Any],
        signature: str,
    ) -> Generator[Mapping[str, np.ndarray], None, None]:
        """What the user's code yields, one response each; errors as ``execute`` has them."""
        before, after = self._stages[: self._yielding], self._stages[self._yielding + 1 :]
        value = self._run(before, self._bind(inputs, parameters))
        with closing(self._parts(_call(self._stages[self._yielding], value))) as parts:
            for part in parts:
                yield self._collect(self._run(after, part), outputs)

    def _parts(self, yielded: Any) -> Generator[Any, None, None]:
        """The values of a generator; an asynchronous one runs on the private loop."""
        if self._loop is None or not inspect.isasyncgen(yielded):
            yield from yielded
            return
        try:
            while (part := self._loop.run(_next(yielded))) is not _END:
                yield part
        finally:
            self._loop.run(yielded.aclose())

    def _bind(self, inputs: Mapping[str, np.ndarray], parameters: Mapping[str, Any]) -> Mapping[str, Any]:
        values = bind(self._arguments, inputs)
        return {**values, "parameters": parameters} if self._takes_parameters else values

    def _collect(self, result: Any, outputs: Sequence[str]) -> Mapping[str, np.ndarray]:
        tensors = collect(self._results, result, "the model")
        return {name: tensors[name] for name in outputs} if outputs else tensors

    def close(self) -> None:
        """Stop the private loop and let the user's object go."""
        if self._loop is not None:
            self._loop.close()
        self._stages = ()

    def _run(self, stages: Sequence[Callable[..., Any]], value: Any) -> Any:
        if self._loop is not None:
            return self._loop.run(_run_async(stages, value)) if stages else value
        for stage in stages:
            value = _call(stage, value)
        return value


_END = object()


async def _run_async(stages: Sequence[Callable[..., Any]], value: Any) -> Any:
    for stage in stages:
        value = _call(stage, value)
        if inspect.isawaitable(value):
            value = await value
    return value


async def _next(yielded: AsyncIterator[Any]) -> Any:
    return await anext(yielded, _END)


def only_response(responses: Generator[Mapping[str, np.ndarray], None, None]) -> Mapping[str, np.ndarray]:
    """The one response of a request that has no more. Raises ``InvalidInput``."""
    with closing(responses):
        first = next(responses, None)
        if first is None or next(responses, None) is not None:
            raise InvalidInput(
                "this model answers in parts, and not in one to this request; "
                "ask its generate_stream, or ModelStreamInfer over gRPC"
            )
    return first


class PrivateLoop:
    """One event loop in its own thread for one asynchronous model, with at most ``max_concurrency`` calls in flight.

    The server's loop never runs user code, so a coroutine that blocks delays nobody but its own model.
    """

    def __init__(self, name: str, max_concurrency: int) -> None:
        self.max_concurrency = max_concurrency
        self._loop = asyncio.new_event_loop()
        self._room = asyncio.Semaphore(max_concurrency)
        self._thread = threading.Thread(target=self._loop.run_forever, name=f"inferd-async-{name}", daemon=True)
        self._thread.start()

    @property
    def thread_id(self) -> int:
        """The identifier of the thread in which the coroutines run."""
        assert self._thread.ident is not None  # started in the constructor
        return self._thread.ident

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """The coroutine's result; blocks the calling thread until there is one."""
        return asyncio.run_coroutine_threadsafe(self._bounded(coroutine), self._loop).result()

    def close(self) -> None:
        """Stop the thread and close the loop. Called once, with nothing in flight."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _bounded(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        async with self._room:
            return await coroutine


def _call(stage: Callable[..., Any], value: Any) -> Any:
    """A dict is passed by name, anything else as the only argument."""
    return stage(**value) if isinstance(value, Mapping) else stage(value)


def _resolve(artefact: Path) -> tuple[object, Path | None, str]:
    """The object that a target names, the folder of its file, and the file's or module's name."""
    head, _, name = str(artefact).rpartition(":")
    if not head:
        module = import_file(artefact)
        return _only_model(module, artefact.name), artefact.parent, artefact.name
    if head.endswith(".py"):
        path = Path(head)
        module, folder, file = import_file(path), path.parent, path.name
    else:
        module, folder, file = _import_module(head), None, head
    if not hasattr(module, name):
        raise LoadFailed(f"{file} has no {name!r}; it defines: {', '.join(_public(module)) or 'nothing public'}")
    return getattr(module, name), folder, file


def _import_module(name: str) -> ModuleType:
    """An installed module, or one in the working directory, as ``python -m`` would find it."""
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    with loading(None, name):
        return import_module(name)


def _only_model(module: ModuleType, where: str) -> object:
    """The class ``Model``, else the only class with ``predict``, else the module itself with its ``predict``."""
    public = _public(module)
    classes = {name: value for name, value in public.items() if inspect.isclass(value) and hasattr(value, "predict")}
    if inspect.isclass(getattr(module, "Model", None)):
        return module.Model
    if len(classes) == 1:
        return next(iter(classes.values()))
    if len(classes) > 1:
        raise LoadFailed(f"{where} has several models; name one: " + ", ".join(f"{where}:{name}" for name in classes))
    if inspect.isfunction(public.get("predict")):
        return module
    raise LoadFailed(f"{where} has neither a class with a method predict nor a function predict")


def _public(module: ModuleType) -> dict[str, Any]:
    """Classes and functions that ``module`` itself defines under a public name."""
    return {
        name: value
        for name, value in vars(module).items()
        if not name.startswith("_") and getattr(value, "__module__", None) == module.__name__
    }


def _build(target: object, folder: Path | None, file: str, config: ModelConfig) -> PythonModel:
    """Instantiate a class, find the stages, derive the signature, call ``load``."""
    where = file
    if inspect.isclass(target):
        where = f"{file}, {target.__name__}"
        with loading(folder, file):
            target = target()
    predict = target if inspect.isroutine(target) else getattr(target, "predict", None)
    if not callable(predict):
        raise LoadFailed(f"{where} has no method predict")
    stages = [stage for stage in (_part(target, "preprocess"), predict, _part(target, "postprocess")) if stage]
    yielding = _yielding(stages, predict, where)
    arguments, signature = _signature(stages, target, config, where)
    batchable = bool(getattr(target, "batchable", False)) if config.batchable is None else config.batchable
    if batchable:
        if yielding is not None:
            raise LoadFailed(f"{where} says batchable = True, but what predict yields belongs to one request")
        require_rows((*signature.inputs, *signature.outputs), where)
    loop = _loaded(_part(target, "load"), stages, folder, file, config)
    concurrent = loop is not None or bool(getattr(target, "concurrent", False))
    return PythonModel(
        stages, arguments, signature, batchable=batchable, concurrent=concurrent, loop=loop, yielding=yielding
    )


def _loaded(
    load: Callable[[], Any] | None,
    stages: Sequence[Callable[..., Any]],
    folder: Path | None,
    file: str,
    config: ModelConfig,
) -> PrivateLoop | None:
    """Call the user's ``load``; the private loop when anything of the model is asynchronous."""
    is_async = any(inspect.iscoroutinefunction(part) or inspect.isasyncgenfunction(part) for part in (*stages, load))
    loop = PrivateLoop(config.name, config.execution.max_concurrency) if is_async else None
    try:
        if loop is not None and inspect.iscoroutinefunction(load):
            with loading(folder, file, loop.thread_id):
                loop.run(load())
        elif load is not None:
            with loading(folder, file):
                load()
    except LoadFailed:
        if loop is not None:
            loop.close()
        raise
    return loop


def _part(target: object, name: str) -> Callable[..., Any] | None:
    """An optional method of a model; a bare function has none."""
    part = None if inspect.isroutine(target) else getattr(target, name, None)
    return part if callable(part) else None


def _yielding(stages: Sequence[Callable[..., Any]], predict: Callable[..., Any], where: str) -> int | None:
    """Where among ``stages`` predict stands when it yields; None when it returns."""
    found = None
    for position, stage in enumerate(stages):
        if inspect.isgeneratorfunction(stage) or inspect.isasyncgenfunction(stage):
            if stage is not predict:
                raise LoadFailed(f"{where}: {stage.__name__} yields its results; only predict may, return them whole")
            found = position
    return found


def _signature(
    stages: Sequence[Callable[..., Any]], target: object, config: ModelConfig, where: str
) -> tuple[tuple[Argument, ...], Signature]:
    """Inputs from the first stage, outputs from the last; model.toml wins over attributes, they over annotations."""
    first, last = stages[0], stages[-1]
    inputs = declared_specs(target, "inputs") | _by_name(config.inputs)
    outputs = _by_name(config.outputs) or declared_specs(target, "outputs")
    arguments = arguments_of(first, inputs, f"{where}: {first.__name__}")
    results = results_of(last, outputs, f"{where}: {last.__name__}")
    return arguments, Signature(tuple(argument.spec for argument in arguments), results)


def _by_name(specs: Sequence[TensorSpec]) -> dict[str, TensorSpec]:
    return {spec.name: spec for spec in specs}
