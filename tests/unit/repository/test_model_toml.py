import tomllib
from dataclasses import replace
from pathlib import Path

import pytest

from inferd.core.config import BatchingConfig, ExecutionConfig, InstanceGroup, ModelConfig
from inferd.core.errors import ConfigError
from inferd.core.tensors import Signature, TensorSpec
from inferd.repository.model_toml import apply, dump_model_toml, read_model_toml

SIGNATURE = Signature(
    (TensorSpec("x", "FP32", (-1, 4)), TensorSpec('größe "m²"\x7f', "INT64", (-1,), optional=True)),
    (TensorSpec("label", "BYTES", (-1,)), TensorSpec("p", "FP64", (-1, 3))),
)


def write(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "model.toml"
    file.write_text(text, encoding="utf-8")
    return file


def test_what_the_file_says_is_laid_over_the_configuration_and_the_rest_stays(tmp_path: Path):
    file = write(
        tmp_path,
        """
        name = "flowers"
        nan = "null"
        select_outputs = ["label"]
        [[input]]
        name = "x"
        datatype = "FP64"
        shape = [-1, 4]
        [batching]
        max_wait_ms = 2
        allowed_sizes = [1, 8]
        [instances]
        device = "cpu"
        [options]
        providers = ["A", { name = "B", level = 3 }]
        """,
    )
    before = ModelConfig("iris", allow_pickle=True, batching=BatchingConfig(max_batch_size=7))
    config = apply(before, read_model_toml(file))
    assert config == ModelConfig(
        "flowers",
        inputs=(TensorSpec("x", "FP64", (-1, 4)),),
        select_outputs=("label",),
        nan="null",
        batching=BatchingConfig(max_batch_size=7, max_wait_ms=2.0, allowed_sizes=(1, 8)),
        instances=InstanceGroup(device="cpu"),
        options={"providers": ["A", {"name": "B", "level": 3}]},
        allow_pickle=True,
    )


def test_an_empty_file_changes_nothing(tmp_path: Path):
    assert apply(ModelConfig("iris"), read_model_toml(write(tmp_path, ""))) == ModelConfig("iris")


@pytest.mark.parametrize(
    "config",
    [
        ModelConfig("iris"),
        ModelConfig(
            "iris-2.b",
            runtime="onnx",
            select_outputs=("p",),
            batchable=False,
            nan="string",
            batching=BatchingConfig(False, 3, 0.25, 9, 1e-07, (2, 4)),
            instances=InstanceGroup(2, "cuda:0"),
            execution=ExecutionConfig("thread", 12.5, 1e22, 3, 4),
            options={"a b": [1, 2.5, True], "deep": {"text": 'quote " back \\ line \n tab \t', "é": "\x7f\x00"}},
        ),
    ],
)
def test_a_written_file_reads_back_the_same(tmp_path: Path, config):
    text = dump_model_toml(config, SIGNATURE)
    overrides = read_model_toml(write(tmp_path, text))
    expected = replace(config, inputs=SIGNATURE.inputs, outputs=SIGNATURE.outputs)
    assert apply(ModelConfig("another"), overrides) == expected
    assert dump_model_toml(expected, Signature(expected.inputs, expected.outputs)) == text
    tomllib.loads(text)


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("batchin = 1", 2, "unknown key 'batchin'; did you mean 'batching'?"),
        ("[batching]\nmax_batch = 1", 3, "unknown key 'batching.max_batch'; did you mean 'max_batch_size'?"),
        ("[batching]\n\nmax_queue_size = 0", 4, "batching.max_queue_size takes numbers from 1 up, got 0"),
        ("[batching]\nmax_wait_ms = -1", 3, "batching.max_wait_ms takes numbers from 0 up"),
        ("[batching]\nmax_wait_ms = nan", 3, "batching.max_wait_ms takes a finite number"),
        ("[batching]\nallowed_sizes = [8, 0]", 3, "batching.allowed_sizes takes numbers from 1 up, got 0"),
        ("[batching]\nenabled = 1", 3, "batching.enabled takes true or false, got 1"),
        ("batching = 3", 2, "batching is a table of keys"),
        ('nan = "ignore"', 2, 'nan takes "error" or "null" or "string"'),
        ("allow_pickle = true", 2, "unknown key 'allow_pickle'"),
        ('name = "a/b"', 2, "name takes letters"),
        ("options = []", 2, "options is a table of keys"),
        ('[input]\nname = "x"', 2, "input is written [[input]]"),
        ('[[input]]\nname = "x"\nshape = [1]', 2, "input[0] lacks 'datatype'"),
        ('[[output]]\nname = "x"\ndatatype = "FP8"\nshape = [1]', 4, "unknown datatype 'FP8'; known: BOOL"),
        ('[[output]]\nname = "x"\ndatatype = "FP32"\nshape = [-2]', 5, "output[0].shape takes numbers from -1 up"),
        (
            '[[output]]\nname = "x"\ndatatype = "FP32"\nshape = "any"',
            5,
            "output[0].shape takes a list of whole numbers",
        ),
        ('[[output]]\nname = "x"\ndtype = "FP32"', 4, "unknown key 'output[0].dtype'; did you mean 'datatype'?"),
        (
            '[[input]]\nname="x"\ndatatype="FP32"\nshape=[]\n[[input]]\nname="x"\ndatatype="FP32"\nshape=[]',
            6,
            "a second input is named 'x'",
        ),
    ],
)
def test_a_mistake_is_refused_with_file_line_and_the_way_out(tmp_path: Path, text, line, says):
    file = write(tmp_path, f"# a model\n{text}\n")
    with pytest.raises(ConfigError) as error:
        read_model_toml(file)
    assert error.value.message.startswith(f"{file}:{line}: ")
    assert says in error.value.message
