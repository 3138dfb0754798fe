"""Our messages are the published ones: every name, number and type that tritonclient's stubs have."""

import sys
from pathlib import Path

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from tritonclient.grpc import model_config_pb2, service_pb2

from inferd.protocols.grpc.schema import descriptors, message_class, pool

sys.path.insert(0, str(Path(__file__).parents[3] / "scripts"))

import generate_protos


def test_the_descriptors_are_what_the_proto_files_say():
    assert generate_protos.compile_protos() == descriptors()


def theirs(module):
    file = FileDescriptorProto()
    module.DESCRIPTOR.CopyToProto(file)
    return file


def ours(name):
    return next(file for file in descriptors().file if file.name == name)


def fields(message):
    return {
        field.name: (
            field.number,
            field.type,
            field.type_name,
            field.label,
            message.oneof_decl[field.oneof_index].name if field.HasField("oneof_index") else "",
        )
        for field in message.field
    }


def shapes(messages, prefix=""):
    """Each message's fields by its full name, nested ones too."""
    found = {}
    for message in messages:
        found[prefix + message.name] = fields(message)
        found.update(shapes(message.nested_type, f"{prefix}{message.name}."))
    return found


def test_the_service_has_the_published_methods_and_messages():
    mine, published = ours("grpc_service.proto"), theirs(service_pb2)
    assert shapes(mine.message_type) == shapes(published.message_type)
    assert [method for each in mine.service for method in names(each)] == [
        method for each in published.service for method in names(each)
    ]


def names(service):
    return [
        (method.name, method.input_type, method.output_type, method.client_streaming, method.server_streaming)
        for method in service.method
    ]


def test_the_model_configuration_is_a_part_of_the_published_one():
    mine = shapes(ours("model_config.proto").message_type)
    published = shapes(theirs(model_config_pb2).message_type)
    for name, members in mine.items():
        assert members.items() <= published[name].items(), name


@pytest.mark.parametrize("enum", ["DataType", "ModelInstanceGroup.Kind"])
def test_enums_have_the_published_numbers(enum):
    def values(pool_):
        return {v.name: v.number for v in pool_.FindEnumTypeByName(f"inference.{enum}").values}

    assert values(pool()) == values(model_config_pb2.DESCRIPTOR.pool)


def test_other_stubs_live_beside_ours():
    """Both know ``inference.ModelInferRequest``; neither sees the other's."""
    request = message_class("inference.ModelInferRequest")(model_name="m")
    assert type(request) is not service_pb2.ModelInferRequest
    assert service_pb2.ModelInferRequest.FromString(request.SerializeToString()).model_name == "m"
