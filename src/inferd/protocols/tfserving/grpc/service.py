"""The methods of ``tensorflow.serving.PredictionService`` and ``ModelService``."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from google.protobuf.json_format import ParseDict

from inferd.core.errors import InvalidRequest
from inferd.protocols.grpc.errors import CONTENT_TYPE, phrase
from inferd.protocols.grpc.infer import InferEndpoint
from inferd.protocols.grpc.schema import message_class, pool
from inferd.protocols.grpc.service import AwaitedEndpoint, MessageEndpoint, Method
from inferd.protocols.shared.context import ProtocolContext
from inferd.protocols.shared.endpoint import Binding, Dialect
from inferd.protocols.tfserving.describe import find_statuses, signature_defs, version_status
from inferd.protocols.tfserving.grpc.classify import ClassifyCodec, RegressCodec
from inferd.protocols.tfserving.grpc.multi import MultiEndpoint
from inferd.protocols.tfserving.grpc.predict import PredictCodec
from inferd.protocols.tfserving.grpc.reload import reload_config
from inferd.protocols.tfserving.grpc.spec import target_in, target_of
from inferd.serving.servable import Servable

PROTOCOL = "tfserving-grpc"
DIALECT = Dialect(PROTOCOL, CONTENT_TYPE, phrase, has_headers=False)
_PACKAGE = "tensorflow.serving"
_PREDICTION, _MODELS = f"/{_PACKAGE}.PredictionService", f"/{_PACKAGE}.ModelService"
_CLASSIFY, _REGRESS = f"{PROTOCOL}:classify", f"{PROTOCOL}:regress"
_READING = (b"GET", b"/v1/models")
_CONTROL = (b"POST", b"/v2/repository/models/load")
SIGNATURES = "signature_def"


class TfServingGrpc:
    """TF Serving over gRPC; see ``GrpcService``."""

    api_version = 1
    name = "tfserving"

    def __init__(self, context: ProtocolContext) -> None:
        self._context = context

    def methods(self) -> tuple[Method, ...]:
        """Every method of both services."""
        predict, classify, regress = (
            InferEndpoint(self._context, DIALECT, target_in, binding) for binding in ("", _CLASSIFY, _REGRESS)
        )
        multi = MultiEndpoint({"tensorflow/serving/classify": classify, "tensorflow/serving/regress": regress})
        metadata = MessageEndpoint(f"{_PACKAGE}.GetModelMetadataRequest", self._metadata)
        status = MessageEndpoint(f"{_PACKAGE}.GetModelStatusRequest", self._status)
        reload = AwaitedEndpoint(f"{_PACKAGE}.ReloadConfigRequest", partial(reload_config, self._context))
        return (
            Method(f"{_PREDICTION}/Predict", _READING, endpoint=predict),
            Method(f"{_PREDICTION}/Classify", _READING, endpoint=classify),
            Method(f"{_PREDICTION}/Regress", _READING, endpoint=regress),
            Method(f"{_PREDICTION}/MultiInference", _READING, endpoint=multi),
            Method(f"{_PREDICTION}/GetModelMetadata", _READING, endpoint=metadata),
            Method(f"{_MODELS}/GetModelStatus", _READING, endpoint=status),
            Method(f"{_MODELS}/HandleReloadConfigRequest", _CONTROL, endpoint=reload),
        )

    def bind(self, servable: Servable) -> None:
        """Make the codecs of a version."""
        servable.bound[PROTOCOL] = Binding(servable, PredictCodec(servable))
        servable.bound[_CLASSIFY] = Binding(servable, ClassifyCodec(servable))
        servable.bound[_REGRESS] = Binding(servable, RegressCodec(servable))

    def _metadata(self, asked: Any) -> Any:
        if list(asked.metadata_field) != [SIGNATURES]:
            raise InvalidRequest(f"metadata_field must name just {SIGNATURES!r}: there is no other metadata")
        ticket = self._context.engine.route(target_of(asked.model_spec))
        ticket.release()
        servable = ticket.servable
        response = message_class(f"{_PACKAGE}.GetModelMetadataResponse")()
        response.model_spec.name = servable.name
        response.model_spec.version.value = servable.version
        signatures = _message("SignatureDefMap", {SIGNATURES: signature_defs(servable)})
        response.metadata[SIGNATURES].type_url = f"type.googleapis.com/{_PACKAGE}.SignatureDefMap"
        response.metadata[SIGNATURES].value = signatures.SerializeToString()
        return response

    def _status(self, asked: Any) -> Any:
        statuses = find_statuses(self._context.engine.table, target_of(asked.model_spec))
        return _message("GetModelStatusResponse", {"model_version_status": [version_status(each) for each in statuses]})


def _message(name: str, values: Mapping[str, Any]) -> Any:
    """A message from what the REST routes answer; their members have the same names."""
    message = message_class(f"{_PACKAGE}.{name}")()
    return ParseDict(values, message, ignore_unknown_fields=True, descriptor_pool=pool())


SERVICE_ADAPTER = TfServingGrpc
