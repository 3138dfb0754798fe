"""One server for all tests of this folder, on each gRPC front."""

import pytest
from grpc_support import Served


@pytest.fixture(scope="session", params=["grpcio", "aio", "native"])
def served(request, tmp_path_factory):
    server = Served(tmp_path_factory.mktemp("grpc"), "--grpc-front", request.param)
    yield server
    server.close()
