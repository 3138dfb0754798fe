import os
from pathlib import Path

import pytest

from inferd.core.config import ExecutionConfig, InstanceGroup, ModelConfig
from inferd.runtimes.configured import intra_op_threads, reason


@pytest.mark.parametrize(("instances", "share"), [(1, 1), (2, 2), (10_000, 10_000)])
def test_instances_share_the_cores_and_each_has_one_thread_at_least(instances, share):
    config = ModelConfig("m", instances=InstanceGroup(count=instances))
    assert intra_op_threads(config) == max(1, len(os.sched_getaffinity(0)) // share)


def test_configured_threads_win():
    assert intra_op_threads(ModelConfig("m", execution=ExecutionConfig(intra_op_threads=7))) == 7


def test_a_reason_is_one_line_without_the_servers_path():
    error = ValueError("cannot read /srv/models/m.onnx.\nstack of the framework")
    assert reason(error, Path("/srv/models/m.onnx")) == "cannot read m.onnx"
    assert reason(KeyError(), Path("m.onnx")) == "KeyError"
