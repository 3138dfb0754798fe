"""Hooks beside an artefact: what they change of a model's signature, and what they are refused for."""

import textwrap

import numpy as np
import pytest

from inferd.abc import ModelMetadata
from inferd.core.config import ModelConfig
from inferd.core.errors import ExecutionFailed, LoadFailed
from inferd.core.tensors import Signature, TensorSpec, describe
from inferd.runtimes.hooks import wrap


class Linear:
    """A row-batched model of two numbers a row: their sum and their product."""

    def __init__(self):
        signature = Signature(
            (TensorSpec("x", "FP32", (-1, 2)),),
            (TensorSpec("sum", "FP32", (-1,)), TensorSpec("product", "FP32", (-1,))),
        )
        self.signatures = {"default": signature}
        self.metadata = ModelMetadata(platform="test")
        self.batchable = True
        self.concurrent = True
        self.user_code = False
        self.asked: list[tuple[str, ...]] = []
        self.closed = 0

    def execute(self, inputs, outputs, parameters, signature):
        assert inputs["x"].dtype == np.float32
        self.asked.append(tuple(outputs))
        answers = {"sum": inputs["x"].sum(axis=1), "product": inputs["x"].prod(axis=1)}
        return {name: answers[name] for name in outputs} if outputs else answers

    def close(self):
        self.closed += 1


@pytest.fixture
def hooked(tmp_path):
    def make(code, model=None):
        path = tmp_path / "hooks.py"
        path.write_text(textwrap.dedent(code))
        return wrap(model or Linear(), path, ModelConfig("m"))

    return make


def signature(model):
    return next(iter(model.signatures.values()))


PARSE = """
    batchable = True

    def preprocess(text: list[str]):
        return [[float(n) for n in line.split()] for line in text]
"""


def test_preprocess_gives_the_public_inputs_and_leaves_the_outputs(hooked):
    model = hooked(PARSE)
    assert [describe(spec) for spec in signature(model).inputs] == ["BYTES[-1]"]
    assert signature(model).output_names == ("sum", "product")
    assert (model.batchable, model.user_code, model.concurrent, model.metadata.platform) == (True, True, False, "test")
    answer = model.execute({"text": np.array([b"1 2", b"3 4"], dtype=object)}, ("sum",), {}, "")
    assert {name: value.tolist() for name, value in answer.items()} == {"sum": [3.0, 7.0]}


def test_postprocess_asks_only_for_the_outputs_it_names_and_gives_the_public_ones(hooked):
    inner = Linear()
    model = hooked(
        """
        outputs = {"big": "BOOL[-1]", "note": "BYTES[-1]"}

        def postprocess(sum, parameters):
            return {"big": sum > parameters["over"], "note": [f"{s:.1f}" for s in sum]}
        """,
        inner,
    )
    inputs = {"x": np.float32([[1, 2], [3, 4]])}
    answer = model.execute(inputs, (), {"over": 5}, "")
    assert inner.asked == [("sum",)]
    assert answer["big"].tolist() == [False, True]
    assert answer["note"].tolist() == [b"3.0", b"7.0"]
    assert list(model.execute(inputs, ("note",), {"over": 5}, "")) == ["note"]


def test_both_hooks_work_around_one_model_and_close_reaches_it(hooked):
    inner = Linear()
    model = hooked(PARSE + "\n    def postprocess(product) -> list[float]:\n        return product.tolist()\n", inner)
    answer = model.execute({"text": np.array([b"3 4"], dtype=object)}, (), {}, "")
    assert answer["output"].tolist() == [12.0]
    assert signature(model).outputs == (TensorSpec("output", "FP64", (-1,)),)
    model.close()
    assert inner.closed == 1


def test_without_a_word_hooks_are_neither_batched_nor_shared(hooked):
    model = hooked("def postprocess(sum) -> float:\n    return float(sum[0])\n")
    assert (model.batchable, model.concurrent) == (False, False)


def test_hooks_that_say_so_are_shared_by_threads(hooked):
    assert hooked("concurrent = True\n" + textwrap.dedent(PARSE)).concurrent is True


def test_what_preprocess_returns_must_fit_the_model(hooked):
    model = hooked('def preprocess(text: str):\n    return {"y": 1}\n')
    with pytest.raises(ExecutionFailed, match="preprocess returned y; expected: x"):
        model.execute({"text": np.array(b"", dtype=object)}, (), {}, "")


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("x = 1", "hooks.py defines neither preprocess nor postprocess"),
        ("preprocess = 3", "hooks.py: preprocess must be a function"),
        ("async def preprocess(x: int): ...", "neither async nor yielding"),
        (
            "def postprocess(total) -> float: ...",
            "has an argument 'total'; name its arguments after the model's outputs",
        ),
        (
            "def postprocess() -> float: ...",
            "takes nothing; name its arguments after the model's outputs: sum, product",
        ),
        ("def postprocess(sum): ...", "hooks.py: postprocess does not say the datatype and shape of what it returns"),
        ("def preprocess(x): ...", "hooks.py: preprocess does not say the datatype and shape of 'x'"),
        ("batchable = True\ndef preprocess(x: int): ...", "'x' is INT64[]"),
        ("import absent_module", "hooks.py, line 1: ModuleNotFoundError"),
    ],
)
def test_hooks_that_cannot_work_are_refused_at_load(hooked, code, message):
    with pytest.raises(LoadFailed) as caught:
        hooked(code)
    assert message in caught.value.message


def test_hooks_cannot_make_a_model_batchable_that_is_not(hooked):
    inner = Linear()
    inner.batchable = False
    with pytest.raises(LoadFailed, match="the model itself does not take rows"):
        hooked(PARSE, inner)
