"""The python runtime: what it finds in a file, which signature it derives, how it calls and what it refuses."""

import asyncio
import sys
import textwrap
import threading
from pathlib import Path
from types import ModuleType
from typing import Annotated

import numpy as np
import pytest

from inferd.core.config import ExecutionConfig, ModelConfig
from inferd.core.errors import ExecutionFailed, InvalidInput, LoadFailed
from inferd.core.tensors import TensorSpec, describe
from inferd.runtimes.python import RUNTIME

DOUBLE = """
    import numpy as np

    class Model:
        inputs = {"x": "FP32[-1, 2]"}
        outputs = {"y": "FP32[-1, 2]"}
        batchable = True

        def predict(self, x: np.ndarray) -> np.ndarray:
            return x * 2
"""


def write(folder: Path, code: str, name: str = "model.py") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(textwrap.dedent(code))
    return path


def load(target, **config):
    return RUNTIME.load(ModelConfig("m", **config), Path(target), "cpu")


def load_object(target, **config):
    return RUNTIME.load(ModelConfig("m", options={"object": target}, **config), Path(), "cpu")


def run(model, outputs=(), parameters=None, **inputs):
    return model.execute(inputs, outputs, parameters or {}, "")


def shapes(specs):
    return {spec.name: describe(spec) for spec in specs}


def signature(model):
    return next(iter(model.signatures.values()))


def test_class_attributes_give_the_signature(tmp_path):
    model = load(write(tmp_path, DOUBLE))
    assert shapes(signature(model).inputs) == {"x": "FP32[-1, 2]"}
    assert shapes(signature(model).outputs) == {"y": "FP32[-1, 2]"}
    assert (model.batchable, model.concurrent, model.user_code) == (True, False, True)
    np.testing.assert_array_equal(run(model, x=np.float32([[1, 2]]))["y"], [[2, 4]])


@pytest.mark.parametrize("target", ["model.py", "model.py:Model", "model.py:Other"])
def test_a_class_is_found_by_its_name_or_as_model(tmp_path, target):
    write(tmp_path, DOUBLE + "\n    class Other(Model):\n        pass\n")
    assert run(load(tmp_path / target), x=np.ones((1, 2), np.float32))["y"].shape == (1, 2)


def test_the_only_class_with_predict_needs_no_particular_name(tmp_path):
    path = write(tmp_path, DOUBLE.replace("class Model", "class Doubler") + "\n    class Helper:\n        pass\n")
    assert signature(load(path)).output_names == ("y",)


def test_several_classes_without_a_model_are_listed_for_the_choice(tmp_path):
    path = write(tmp_path, "class A:\n    def predict(self): ...\nclass B:\n    def predict(self): ...\n")
    with pytest.raises(LoadFailed, match=r"name one: model\.py:A, model\.py:B"):
        load(path)


def test_a_function_predict_and_what_stands_beside_it_is_a_model(tmp_path):
    code = """
        ready = []
        inputs = {"x": "INT64[-1]"}
        outputs = {"total": "INT64[]"}

        def load():
            ready.append(1)

        def predict(x):
            return x.sum() + len(ready)
    """
    assert run(load(write(tmp_path, code)), x=np.array([1, 2]))["total"] == 4


def test_a_named_function_is_a_model(tmp_path):
    write(tmp_path, "def area(width: float, height: float = 2.0) -> float:\n    return width * height\n", "shapes.py")
    model = load(tmp_path / "shapes.py:area")
    assert shapes(signature(model).inputs) == {"width": "FP64[]", "height": "FP64[]"}
    assert run(model, width=np.array(3.0))["output"] == 6.0
    assert [spec.optional for spec in signature(model).inputs] == [False, True]


def test_a_module_in_the_working_directory_is_found(tmp_path, monkeypatch):
    write(tmp_path, DOUBLE, "doubling_module.py")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "modules", dict(sys.modules))
    assert run(load("doubling_module:Model"), x=np.ones((1, 2), np.float32))["y"][0, 0] == 2


def test_annotations_alone_give_a_signature_with_several_inputs_and_outputs(tmp_path):
    code = """
        from __future__ import annotations
        from dataclasses import dataclass
        from typing import Annotated
        import numpy as np

        @dataclass
        class Answer:
            score: Annotated[np.ndarray, "FP64[-1]"]
            words: list[str]

        class Model:
            def predict(self, x: Annotated[np.ndarray, "FP64[-1, 2]"], names: list[str]) -> Answer:
                return Answer(x.sum(axis=1), [name.upper() for name in names])
    """
    model = load(write(tmp_path, code))
    assert shapes(signature(model).inputs) == {"x": "FP64[-1, 2]", "names": "BYTES[-1]"}
    assert shapes(signature(model).outputs) == {"score": "FP64[-1]", "words": "BYTES[-1]"}
    result = run(model, ("words",), x=np.ones((2, 2)), names=np.array([b"a", "ü".encode()], dtype=object))
    assert list(result) == ["words"]
    assert result["words"].tolist() == [b"A", "Ü".encode()]


def test_configured_tensors_win_over_the_attributes(tmp_path):
    specs = {"inputs": (TensorSpec("x", "FP64", (-1, 2)),), "outputs": (TensorSpec("z", "FP64", (-1, 2)),)}
    model = load(write(tmp_path, DOUBLE), **specs, batchable=False)
    assert shapes(signature(model).inputs) == {"x": "FP64[-1, 2]"}
    assert list(run(model, x=np.ones((1, 2)))) == ["z"]
    assert model.batchable is False


def test_load_is_called_once_in_the_loading_thread_before_any_predict(tmp_path):
    code = """
        import threading

        class Model:
            outputs = {"thread": "INT64[]"}
            calls = 0

            def load(self):
                self.calls += 1
                self.thread = threading.get_ident()

            def predict(self, x: int) -> int:
                assert self.calls == 1
                return self.thread
    """
    assert run(load(write(tmp_path, code)), x=np.array(1))["thread"] == threading.get_ident()


def test_pre_and_postprocess_surround_predict_and_give_the_public_signature(tmp_path):
    code = """
        class Model:
            def preprocess(self, text: str) -> dict:
                return {"words": text.split(), "bonus": 1}

            def predict(self, words, bonus):
                return len(words) + bonus

            def postprocess(self, count) -> str:
                return f"{count} words"
    """
    model = load(write(tmp_path, code))
    assert shapes(signature(model).inputs) == {"text": "BYTES[]"}
    assert run(model, text=np.array(b"a b c", dtype=object))["output"].item() == b"4 words"


def test_an_argument_called_parameters_takes_the_requests_parameters():
    def predict(x: int, parameters: dict) -> int:
        return x + parameters["add"]

    assert run(load_object(predict), parameters={"add": 5}, x=np.array(1))["output"] == 6


def test_a_live_object_is_a_model():
    class Scaler:
        batchable = True

        def __init__(self, factor: float = 1.0):
            self.factor = factor

        def predict(self, x: Annotated[np.ndarray, "FP64[-1]"]) -> Annotated[np.ndarray, "FP64[-1]"]:
            return x * self.factor

    assert run(load_object(Scaler(3.0)), x=np.ones(2))["output"].tolist() == [3.0, 3.0]
    assert run(load_object(Scaler), x=np.ones(2))["output"].tolist() == [1.0, 1.0]


def test_async_calls_overlap_up_to_the_bound_in_one_private_loop():
    class Meeting:
        def __init__(self):
            self.inside = self.most = 0
            self.both = asyncio.Event()

        async def predict(self, x: int) -> int:
            self.inside += 1
            self.most = max(self.most, self.inside)
            if self.inside == 2:
                self.both.set()
            await self.both.wait()
            self.inside -= 1
            return x

    meeting = Meeting()
    model = load_object(meeting, execution=ExecutionConfig(max_concurrency=2))
    assert (model.concurrent, model.max_concurrency) == (True, 2)
    answers = []
    threads = [
        threading.Thread(target=lambda n=n: answers.append(int(run(model, x=np.array(n))["output"]))) for n in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    model.close()
    assert sorted(answers) == list(range(6))
    assert meeting.most == 2


def test_closing_an_async_model_ends_its_thread():
    async def predict(x: int) -> int:
        return x

    before = set(threading.enumerate())
    model = load_object(predict)
    (started,) = set(threading.enumerate()) - before
    model.close()
    assert not started.is_alive()


def test_async_load_and_sync_predict_work_together(tmp_path):
    write(tmp_path, "VALUE = 7\n", "sibling.py")
    code = """
        class Model:
            async def load(self):
                import sibling
                self.value = sibling.VALUE

            def predict(self, x: int) -> int:
                return x + self.value
    """
    model = load(write(tmp_path, code))
    assert run(model, x=np.array(1))["output"] == 8
    model.close()


@pytest.mark.parametrize("line", ["import sibling", "from . import sibling"])
def test_two_versions_with_equal_file_names_keep_their_own_siblings(tmp_path, line):
    models = []
    for version in (1, 2):
        write(tmp_path / str(version), f"VALUE = {version}\n", "sibling.py")
        code = f"{line}\ndef predict(x: int) -> int:\n    return x + sibling.VALUE\n"
        models.append(load(write(tmp_path / str(version), code)))
    assert [int(run(model, x=np.array(0))["output"]) for model in models] == [1, 2]
    assert "sibling" not in sys.modules
    assert not list(tmp_path.rglob("__pycache__"))


def test_a_load_that_does_not_end_holds_up_only_those_that_share_a_modules_name(tmp_path, monkeypatch):
    """What is imported is shared by the process, so one of two `sibling`s waits for the other's load."""
    go, inside = threading.Event(), threading.Event()
    held = ModuleType("_held_by_a_test")
    held.wait = lambda: (inside.set(), go.wait(30))
    monkeypatch.setitem(sys.modules, held.__name__, held)
    hang = (
        "import sibling, _held_by_a_test as held\nheld.wait()\ndef predict(x: int) -> int:\n    return sibling.VALUE\n"
    )
    code = "import sibling\ndef predict(x: int) -> int:\n    return sibling.VALUE\n"
    for folder, value in (("a", 1), ("b", 2)):
        write(tmp_path / folder, f"VALUE = {value}\n", "sibling.py")
    models = {}

    def load_into(name, source):
        models[name] = load(write(tmp_path / name, source))

    threads = [threading.Thread(target=load_into, args=("a", hang))]
    threads[0].start()
    assert inside.wait(30)
    load_into("c", "def predict(x: int) -> int:\n    return 3\n")
    threads.append(threading.Thread(target=load_into, args=("b", code)))
    threads[1].start()
    assert "b" not in models
    go.set()
    for thread in threads:
        thread.join(30)
    assert {name: int(run(model, x=np.array(0))["output"]) for name, model in models.items()} == {
        "a": 1,
        "b": 2,
        "c": 3,
    }


def test_a_relative_import_works_while_predicting(tmp_path):
    write(tmp_path, "VALUE = 3\n", "late.py")
    model = load(write(tmp_path, "def predict(x: int) -> int:\n    from .late import VALUE\n    return VALUE\n"))
    assert run(model, x=np.array(0))["output"] == 3


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("import numpy\nimport absent_module\n", "model.py, line 2: ModuleNotFoundError: No module named 'absent_mod"),
        ("x = 1\ndef predict(:\n", "model.py, line 2: SyntaxError"),
        ("class Model:\n    def __init__(self, path): ...\n    def predict(self): ...\n", "model.py: TypeError"),
        (
            "class Model:\n    def load(self):\n        open('/srv/secret/w')\n    def predict(self) -> int: ...",
            "model.py, line 3: FileNotFoundError: [Errno 2] No such file or directory: 'w'",
        ),
        ("raise SystemExit(3)", "model.py, line 1: SystemExit: 3"),
        ("x = 1", "model.py has neither a class with a method predict nor a function predict"),
        ("def predict(x): ...", "model.py: predict does not say the datatype and shape of 'x'; write x: Annotated["),
        ("def predict(x: int): ...", "what it returns ('output'); write -> Annotated["),
        ("def predict(*rows) -> int: ...", "*rows cannot be passed by name"),
        ("inputs = {'y': 'FP32[]'}\ndef predict(x: int) -> int: ...", "predict has no argument 'y'; it has x"),
        ("inputs = {'x': 'float[3]'}\ndef predict(x) -> int: ...", "'float[3]' does not describe the tensor 'x'"),
        ("batchable = True\ndef predict(x: int) -> int: ...", "'x' is INT64[]; the first dimension"),
        ("inputs = {'x': 'INT64[-1]'}\ndef predict(x: int) -> int: ...", "annotate it list[int] or np.ndarray"),
        ("def predict(x: int):\n    yield 1", "what it returns ('output'); write -> Annotated["),
        (
            "batchable = True\ninputs = {'x': 'INT64[-1]'}\noutputs = {'y': 'INT64[-1]'}\ndef predict(x):\n    yield 1",
            "batchable = True, but what predict yields belongs to one request",
        ),
        (
            "class Model:\n    def preprocess(self, x: int):\n        yield 1\n    def predict(self, x) -> int: ...",
            "preprocess yields its results; only predict may",
        ),
    ],
)
def test_what_cannot_be_a_model_is_refused_in_one_readable_sentence(tmp_path, code, message):
    with pytest.raises(LoadFailed) as caught:
        load(write(tmp_path, code))
    assert message in caught.value.message
    assert str(tmp_path) not in caught.value.message
    assert "\n" not in caught.value.message


def test_a_missing_file_name_or_module_is_said(tmp_path):
    with pytest.raises(LoadFailed, match=r"^model\.py does not exist$"):
        load(tmp_path / "model.py")
    write(tmp_path, DOUBLE)
    with pytest.raises(LoadFailed, match=r"model\.py has no 'Modell'; it defines: Model"):
        load(tmp_path / "model.py:Modell")
    with pytest.raises(LoadFailed, match="No module named 'absent_package'"):
        load("absent_package:Model")


def test_a_failed_import_leaves_nothing_behind(tmp_path):
    before = set(sys.modules)
    with pytest.raises(LoadFailed):
        load(write(tmp_path, "raise ValueError('no')"))
    assert {name for name in set(sys.modules) - before if name.startswith("_inferd")} == set()


@pytest.mark.parametrize(
    ("spec", "value", "expected"),
    [
        ("FP32[-1]", [1, 2.5], np.float32([1, 2.5])),
        ("FP64[-1]", np.float32([0.5]), np.float64([0.5])),
        ("INT8[-1]", [1, 2], np.int8([1, 2])),
        ("BOOL[]", True, np.True_),
        ("BYTES[-1]", np.array(["a", "b"]), np.array([b"a", b"b"], dtype=object)),
        ("BYTES[]", b"\xff", np.array(b"\xff", dtype=object)),
        ("INT64[-1]", [], np.zeros(0, np.int64)),
    ],
)
def test_results_change_their_datatype_without_loss(spec, value, expected):
    def predict(x: int):
        return value

    predict.outputs = {"y": spec}
    result = run(load_object(predict), x=np.array(0))["y"]
    assert result.dtype == expected.dtype
    np.testing.assert_array_equal(result, expected)


@pytest.mark.parametrize(
    ("spec", "value", "message"),
    [
        ("FP32[-1]", np.float64([0.1]), "FP64, which would lose something; use .astype(np.float32)"),
        ("INT64[-1]", [1.0], "no INT64 tensor for 'y': it is FP64"),
        ("INT8[-1]", [300], "out of bounds"),
        ("FP32[-1, 2]", [[1, 2, 3]], "returned FP32[1, 3] for 'y', declared as FP32[-1, 2]"),
        ("FP32[-1]", [[1], [2, 3]], "inhomogeneous"),
        ("BYTES[-1]", [1], "int is neither str nor bytes"),
        ("FP32[]", None, "no FP32 tensor"),
        ("FP32[]", {"z": 1}, "the model returned z; expected: y"),
        ("FP32[]", {}, "the model returned an empty dict; expected: y"),
    ],
)
def test_results_that_are_not_the_declared_ones_are_refused(spec, value, message):
    def predict(x: int):
        return value

    predict.outputs = {"y": spec}
    with pytest.raises(ExecutionFailed) as caught:
        run(load_object(predict), x=np.array(0))
    assert message in caught.value.message


def test_the_users_own_refusal_passes_through_sync_and_async():
    def predict(x: int) -> int:
        raise InvalidInput("too small", expected="> 3")

    async def slow_predict(x: int) -> int:
        return predict(x)

    for function in (predict, slow_predict):
        model = load_object(function)
        with pytest.raises(InvalidInput, match="too small"):
            run(model, x=np.array(1))
        model.close()


def test_bytes_that_are_no_text_are_the_callers_mistake():
    def predict(text: str) -> str:
        return text

    with pytest.raises(InvalidInput, match="UTF-8; byte 1"):
        run(load_object(predict), text=np.array(b"a\xff", dtype=object))


@pytest.mark.parametrize(
    ("path", "claimed"),
    [
        ("net/1/model.py", True),
        ("net/1/hooks.py", False),
        ("service.py", True),
        ("service.py:Class", True),
        ("package.module:Class", True),
        ("model.onnx", False),
        ("folder", False),
    ],
)
def test_only_python_files_and_targets_are_claimed(path, claimed):
    assert RUNTIME.claims(Path(path)) is claimed


@pytest.mark.parametrize("kind", ["Iterator", "Iterable", "Generator"])
def test_what_predict_yields_is_one_response_each(tmp_path, kind):
    more = ", None, None" if kind == "Generator" else ""
    code = f"""
        from collections.abc import {kind}

        def predict(x: int) -> {kind}[int{more}]:
            for i in range(x):
                yield i
    """
    model = load(write(tmp_path, code))
    assert model.streaming
    assert [describe(spec) for spec in next(iter(model.signatures.values())).outputs] == ["INT64[]"]
    for count in (0, 3):
        responses = model.stream({"x": np.array(count)}, (), {}, "")
        assert [int(each["output"]) for each in responses] == list(range(count))
    assert model.execute({"x": np.array(1)}, (), {}, "")["output"] == 0
    for count in (0, 2):
        with pytest.raises(InvalidInput, match="generate_stream"):
            model.execute({"x": np.array(count)}, (), {}, "")
    model.close()


@pytest.mark.parametrize("is_async", [False, True])
def test_the_stages_around_a_predict_that_yields_are_kept_and_it_is_closed_early(tmp_path, is_async):
    word = "async " if is_async else ""
    code = f"""
        closed = []

        class Model:
            inputs = {{"x": "INT64[]"}}
            outputs = {{"y": "INT64[]", "z": "INT64[]"}}

            {word}def preprocess(self, x):
                return {{"count": int(x) * 10}}

            {word}def predict(self, count):
                try:
                    for i in range(count):
                        yield i
                finally:
                    closed.append(True)

            def postprocess(self, i):
                return {{"y": -i, "z": closed.copy() == []}}
    """
    model = load(write(tmp_path, code), inputs=(TensorSpec("x", "INT64", ()),))
    responses = model.stream({"x": np.array(1)}, ("y",), {}, "")
    assert [next(responses) for _ in range(3)] == [{"y": 0}, {"y": -1}, {"y": -2}]
    responses.close()
    late = model.stream({"x": np.array(0)}, ("y",), {}, "")
    assert list(late) == []
    model.close()


def test_a_yielded_value_that_does_not_fit_is_the_models_failure(tmp_path):
    code = """
        outputs = {"y": "INT64[]"}

        def predict(x: int):
            yield 1
            yield "two"
    """
    model = load(write(tmp_path, code))
    responses = model.stream({"x": np.array(0)}, (), {}, "")
    assert next(responses) == {"y": 1}
    with pytest.raises(ExecutionFailed, match="no INT64 tensor for 'y'"):
        next(responses)
