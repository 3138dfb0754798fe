"""gRPC server reflection, v1 and v1alpha: the services and the descriptors of their files.

Protocol: "GRPC Server Reflection Protocol". The versions differ in the package's name alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from inferd.core.errors import Code
from inferd.protocols.grpc.schema import message_class, pool, read_message
from inferd.protocols.grpc.service import Method, Stream
from inferd.protocols.shared.status import GRPC_STATUS

VERSIONS = ("grpc.reflection.v1", "grpc.reflection.v1alpha")
_ALIKE = (b"GET", b"/v2")


class Reflection:
    """Answers for ``services``, by full name."""

    def __init__(self, services: Sequence[str]) -> None:
        self._services = sorted([*services, *(f"{version}.ServerReflection" for version in VERSIONS)])

    def methods(self) -> tuple[Method, ...]:
        """``ServerReflectionInfo`` of both versions."""
        return tuple(
            Method(f"/{version}.ServerReflection/ServerReflectionInfo", _ALIKE, stream=self) for version in VERSIONS
        )

    async def serve(self, stream: Stream) -> None:
        """One answer to each request, in order."""
        while (body := await stream.read()) is not None:
            await stream.write(self._answer(body).SerializeToString())

    def _answer(self, body: bytes) -> Any:
        request = read_message(f"{VERSIONS[0]}.ServerReflectionRequest", body)
        response = message_class(f"{VERSIONS[0]}.ServerReflectionResponse")(
            valid_host=request.host, original_request=request
        )
        asked = request.WhichOneof("message_request")
        try:
            if asked == "list_services":
                for name in self._services:
                    response.list_services_response.service.add(name=name)
            elif asked == "file_by_filename":
                self._put_files(response, pool().FindFileByName(request.file_by_filename))
            elif asked == "file_containing_symbol":
                self._put_files(response, pool().FindFileContainingSymbol(request.file_containing_symbol))
            elif asked == "all_extension_numbers_of_type":
                name = request.all_extension_numbers_of_type
                pool().FindMessageTypeByName(name)
                response.all_extension_numbers_response.base_type_name = name
            else:
                raise KeyError(asked)  # proto3 has no extensions
        except KeyError:
            response.error_response.error_code = GRPC_STATUS[Code.NOT_FOUND]
            response.error_response.error_message = "not found"
        return response

    def _put_files(self, response: Any, file: Any) -> None:
        """``file`` and all that it imports, itself first."""
        unique = {each.name: each.serialized_pb for each in _with_imports(file)}
        response.file_descriptor_response.file_descriptor_proto.extend(unique.values())


def _with_imports(file: Any) -> Iterator[Any]:
    yield file
    for imported in file.dependencies:
        yield from _with_imports(imported)
