"""The protobuf messages of every gRPC service, in a descriptor pool of their own.

The default pool takes one ``inference.ModelInferRequest`` a process, and the stubs of tritonclient, KServe and others
each bring theirs. ``scripts/generate_protos.py`` makes the descriptors from the ``.proto`` files beside this module.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from typing import Any

from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass

from inferd.core.errors import MalformedRequest


@cache
def descriptors() -> FileDescriptorSet:
    """Every file, each after those it imports."""
    return FileDescriptorSet.FromString(files(__package__).joinpath("schema.binpb").read_bytes())


@cache
def pool() -> DescriptorPool:
    """The private pool that holds every file."""
    private = DescriptorPool()
    for file in descriptors().file:
        private.Add(file)
    return private


@cache
def message_class(name: str) -> Any:
    """The class of a message by its full name, such as ``inference.ModelInferRequest``."""
    return GetMessageClass(pool().FindMessageTypeByName(name))


def read_message(name: str, body: bytes) -> Any:
    """The message of that full name in ``body``. Raises ``MalformedRequest``."""
    try:
        return message_class(name).FromString(body)
    except DecodeError:
        raise MalformedRequest(f"the message is not an encoded {name}") from None


def method_names(service: str) -> Sequence[str]:
    """The names of a service's methods, in the order of its file."""
    return tuple(method.name for method in pool().FindServiceByName(service).methods)
