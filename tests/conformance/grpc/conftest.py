"""One server for all tests of this folder."""

import pytest
from grpc_support import Served


@pytest.fixture(scope="session")
def served(tmp_path_factory):
    server = Served(tmp_path_factory.mktemp("grpc"))
    yield server
    server.close()
