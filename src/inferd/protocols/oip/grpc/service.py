"""The methods of ``inference.GRPCInferenceService`` that do not infer, and the list of all of them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from google.protobuf.json_format import ParseDict

from inferd.abc import Target
from inferd.core.errors import Unsupported, VersionNotFound
from inferd.protocols.grpc.infer import InferEndpoint
from inferd.protocols.grpc.schema import message_class, method_names, pool
from inferd.protocols.grpc.service import AwaitedEndpoint, MessageEndpoint, Method
from inferd.protocols.oip import repository_api, settings, shared_memory
from inferd.protocols.oip.describe import index_entry, model_config, model_metadata, server_metadata
from inferd.protocols.oip.grpc.codec import GrpcCodec, read_parameters
from inferd.protocols.oip.grpc.infer import DIALECT, PROTOCOL, InferStream
from inferd.protocols.oip.grpc.request import target_in, target_of
from inferd.protocols.oip.plan import planner_of
from inferd.protocols.oip.shared_memory import OwnedEndpoint
from inferd.protocols.oip.statistics import model_statistics
from inferd.protocols.shared.context import ProtocolContext
from inferd.protocols.shared.endpoint import Binding
from inferd.serving.servable import Servable

SERVICE = "inference.GRPCInferenceService"
_READING = (b"GET", b"/v2")
_ALIKE = {
    "ServerLive": (b"GET", b"/v2/health/live"),
    "ServerReady": (b"GET", b"/v2/health/ready"),
    "RepositoryIndex": (b"GET", b"/v2/repository/index"),
    "RepositoryModelLoad": (b"POST", b"/v2/repository/models/load"),
    "RepositoryModelUnload": (b"POST", b"/v2/repository/models/unload"),
    "LogSettings": (b"POST", b"/v2/logging"),
    "TraceSetting": (b"POST", b"/v2/trace/setting"),
}
_LOG_FIELDS = {bool: "bool_param", int: "uint32_param", str: "string_param"}
_AWAITED = {"RepositoryModelLoad": repository_api.load, "RepositoryModelUnload": repository_api.unload}


class OipGrpc:
    """V2 over gRPC; see ``GrpcService``."""

    api_version = 1
    name = "oip"

    def __init__(self, context: ProtocolContext) -> None:
        self._context = context
        infer = InferEndpoint(context, DIALECT, target_in)
        self._infer = OwnedEndpoint(infer) if context.regions is not None else infer

    def methods(self) -> tuple[Method, ...]:
        """Every method that the service's file declares."""
        return tuple(self._method(name) for name in method_names(SERVICE))

    def bind(self, servable: Servable) -> None:
        """Make the codec of a version."""
        regions = self._context.regions
        planner = planner_of(servable, shared_memory=regions is not None)
        servable.bound[PROTOCOL] = Binding(servable, GrpcCodec(planner, servable.name, servable.version, regions))

    def _method(self, name: str) -> Method:
        path, alike = f"/{SERVICE}/{name}", _ALIKE.get(name, _READING)
        if name == "ModelInfer":
            return Method(path, alike, endpoint=self._infer)
        if name == "ModelStreamInfer":
            return Method(path, alike, stream=InferStream(self._infer, self._context))
        if name in _AWAITED:
            return Method(path, alike, endpoint=AwaitedEndpoint(f"inference.{name}Request", self._change(name)))
        if name.startswith("SystemSharedMemory"):
            return Method(path, alike, endpoint=AwaitedEndpoint(f"inference.{name}Request", self._memory(name)))
        return Method(path, alike, endpoint=MessageEndpoint(f"inference.{name}Request", self._answers()[name]))

    def _answers(self) -> dict[str, Callable[[Any], Any]]:
        return {
            "ServerLive": lambda _: _message("ServerLiveResponse", {"live": True}),
            "ServerReady": lambda _: _message("ServerReadyResponse", {"ready": not self._context.blockers(None)}),
            "ServerMetadata": lambda _: _message("ServerMetadataResponse", self._server_metadata()),
            "ModelReady": self._model_ready,
            "ModelMetadata": self._model_metadata,
            "ModelConfig": lambda asked: _message("ModelConfigResponse", {"config": model_config(self._find(asked))}),
            "ModelStatistics": self._model_statistics,
            "RepositoryIndex": self._index,
            "CudaSharedMemoryStatus": _no_cuda,
            "CudaSharedMemoryRegister": _no_cuda,
            "CudaSharedMemoryUnregister": _no_cuda_regions,
            "LogSettings": _log_settings,
            "TraceSetting": self._trace_setting,
        }

    def _change(self, name: str) -> Callable[[Any, str], Awaitable[Any]]:
        async def change(asked: Any, who: str) -> Any:
            parameters = read_parameters(asked.parameters)
            await _AWAITED[name](self._context, asked.model_name, parameters, who)
            return message_class(f"inference.{name}Response")()

        return change

    def _memory(self, name: str) -> Callable[[Any, str], Awaitable[Any]]:
        """The answer to a request about regions; each caller has its own."""

        async def answer(asked: Any, who: str) -> Any:
            regions = shared_memory.regions_of(self._context)
            if name == "SystemSharedMemoryRegister":
                regions.register(who, asked.name, asked.key, asked.offset, asked.byte_size)
            elif name == "SystemSharedMemoryUnregister":
                regions.unregister(who, asked.name)
            else:
                found = {region.name: shared_memory.region_entry(region) for region in regions.status(who, asked.name)}
                return _message(f"{name}Response", {"regions": found})
            return message_class(f"inference.{name}Response")()

        return answer

    def _server_metadata(self) -> dict[str, Any]:
        return server_metadata(shared_memory=self._context.regions is not None)

    def _find(self, asked: Any) -> Servable:
        """The ready version that is asked for. Raises what routing raises."""
        ticket = self._context.engine.route(target_of(asked.name, asked.version))
        ticket.release()
        return ticket.servable

    def _model_ready(self, asked: Any) -> Any:
        """As in Triton, a model that is not there is one that is not ready."""
        table = self._context.engine.table
        try:
            target = target_of(asked.name, asked.version)
        except VersionNotFound:
            return _message("ModelReadyResponse", {"ready": False})
        ticket = table.tickets.get(target)
        ready = not ticket.servable.batcher.wedged if ticket is not None else table.may_answer(target)
        return _message("ModelReadyResponse", {"ready": ready})

    def _model_metadata(self, asked: Any) -> Any:
        found = self._find(asked)
        return _message("ModelMetadataResponse", model_metadata(found, self._context.engine.table))

    def _model_statistics(self, asked: Any) -> Any:
        """Of one version, of all versions of a model, or of everything when no model is named."""
        table = self._context.engine.table
        if asked.name and asked.version:
            servables = [self._find(asked)]
        elif asked.name and asked.name not in table.models:
            raise table.explain(Target(asked.name))
        else:
            statuses = [status for status in table.statuses if asked.name in ("", status.model)]
            servables = [status.servable for status in statuses if status.servable is not None]
        return _message("ModelStatisticsResponse", {"model_stats": [model_statistics(each) for each in servables]})

    def _trace_setting(self, asked: Any) -> Any:
        values = {name: list(setting.value) or None for name, setting in asked.settings.items()}
        found = settings.change_trace_settings(self._context, asked.model_name, values)
        response = message_class("inference.TraceSettingResponse")()
        for name, value in found.items():
            response.settings[name].value.extend(value if type(value) is list else [value])
        return response

    def _index(self, asked: Any) -> Any:
        entries = [index_entry(status) for status in self._context.engine.table.statuses]
        wanted = [entry for entry in entries if entry["state"] == "READY" or not asked.ready]
        return _message("RepositoryIndexResponse", {"models": wanted})


def _log_settings(asked: Any) -> Any:
    values = {}
    for name, setting in asked.settings.items():
        choice = setting.WhichOneof("parameter_choice")
        values[name] = getattr(setting, choice) if choice else None
    response = message_class("inference.LogSettingsResponse")()
    for name, value in settings.change_log_settings(values).items():
        setattr(response.settings[name], _LOG_FIELDS[type(value)], value)
    return response


def _message(name: str, values: Mapping[str, Any]) -> Any:
    """A message from what the REST routes answer; their members have the same names."""
    message = message_class(f"inference.{name}")()
    # What only JSON clients read has no field in our part of the model's configuration.
    return ParseDict(values, message, ignore_unknown_fields=True, descriptor_pool=pool())


def _no_cuda(asked: Any) -> Any:
    raise Unsupported(shared_memory.NO_CUDA)


def _no_cuda_regions(asked: Any) -> Any:
    """Clients begin and end by unregistering all of both kinds: of this one there are none."""
    return _no_cuda(asked) if asked.name else message_class("inference.CudaSharedMemoryUnregisterResponse")()


SERVICE_ADAPTER = OipGrpc
