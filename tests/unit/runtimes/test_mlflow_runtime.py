"""MLflow's folders: what their signatures become, what passes in and out, and what is not loaded."""

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

import mlflow_builders as builders
from inferd.core.config import ModelConfig
from inferd.core.errors import ExecutionFailed, InvalidInput, LoadFailed
from inferd.core.tensors import TensorSpec
from inferd.repository.artefact import find_artefact
from inferd.repository.loader import load_version
from inferd.runtimes.mlflow import RUNTIME
from inferd.runtimes.mlflow_schema import tensors_of
from model_builders import objects

TREE = "sklearn.tree._tree.Tree"
MODEL = """
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel

class Made(PythonModel):
    def predict(self, context, model_input, params=None):
        {body}

set_model(Made())
"""


def load(artefact, **config):
    return RUNTIME.load(ModelConfig("m", **config), Path(artefact), "cpu")


def run(model, parameters=None, outputs=(), **inputs):
    return model.execute(inputs, outputs, parameters or {}, "")


def made(folder, body, inputs=None, **saved):
    """A model from code whose ``predict`` is ``body``."""
    return builders.from_code(folder, MODEL.format(body=body), inputs, **saved)


def edit(artefact, **changes):
    """Replace values in an MLmodel file: of a flavour, if the key has its name before it."""
    import yaml

    file = artefact / "MLmodel"
    tree = yaml.safe_load(file.read_text())
    for key, value in changes.items():
        flavour, _, name = key.rpartition("__")
        (tree["flavors"][flavour] if flavour else tree)[name] = value
    file.write_text(yaml.safe_dump(tree))


@pytest.fixture
def columns(tmp_path, build):
    """A copy of the built model that a test may spoil."""
    return Path(shutil.copytree(build(builders.mlflow_columns).artefact, tmp_path / "columns"))


@pytest.fixture(scope="module")
def forest(tmp_path_factory):
    """A skops payload with a type that skops does not trust by itself, and MLflow's file does."""
    import mlflow.sklearn
    from sklearn.ensemble import RandomForestClassifier

    x, y = builders.iris()
    folder = tmp_path_factory.mktemp("forest")
    model = RandomForestClassifier(2, random_state=0).fit(x, y)
    mlflow.sklearn.save_model(model, folder / "forest", input_example=x[:2], skops_trusted_types=[TREE], **builders.FEW)
    return folder / "forest"


@pytest.fixture(scope="module")
def pickled(tmp_path_factory):
    import mlflow.sklearn
    from mlflow.models import infer_signature
    from sklearn.linear_model import LinearRegression

    x, y = builders.iris()
    folder = tmp_path_factory.mktemp("pickled")
    model = LinearRegression().fit(x, y)
    mlflow.sklearn.save_model(
        model,
        folder / "pickled",
        signature=infer_signature(x, model.predict(x)),
        serialization_format="cloudpickle",
        **builders.FEW,
    )
    return folder / "pickled"


# Signatures


def test_named_columns_are_inputs_of_their_own(build):
    model = load(build(builders.mlflow_columns).artefact)
    signature = model.signatures["default"]
    assert signature.inputs[0] == TensorSpec("sepal length (cm)", "FP64", (-1,))
    assert len(signature.inputs) == 4
    assert signature.outputs == (TensorSpec("predictions", "INT64", (-1,)),)
    assert (model.batchable, model.user_code) == (True, False)
    assert model.metadata.platform == "mlflow"
    assert model.metadata.provenance["flavour"] == "sklearn"


def test_a_tensor_without_a_name_is_x(build):
    signature = load(build(builders.mlflow_tensor).artefact).signatures["default"]
    assert signature.inputs == (TensorSpec("x", "FP64", (-1, 4)),)
    assert signature.outputs == (TensorSpec("predictions", "FP64", (-1, 3)),)


def test_each_type_of_a_column_has_its_datatype(tmp_path):
    types = ["boolean", "integer", "long", "float", "double", "string", "binary", "datetime"]
    body = "return {column: model_input[column] for column in model_input}"
    model = load(made(tmp_path, body, dict(zip("abcdefgh", types, strict=True))))
    signature = model.signatures["default"]
    datatypes = ["BOOL", "INT32", "INT64", "FP32", "FP64", "BYTES", "BYTES", "BYTES"]
    assert [spec.datatype for spec in signature.inputs] == datatypes
    assert [spec.datatype for spec in signature.outputs] == datatypes
    inputs = {spec.name: np.ones(1, spec.dtype) for spec in signature.inputs}
    texts = {"f": "käse", "h": "2024-05-06T07:08:09.123456789"}
    inputs |= {name: objects([text]) for name, text in texts.items()} | {"g": np.array([b"\xff\x00"], object)}
    answer = run(model, **inputs)
    for name, array in inputs.items():
        assert answer[name].tolist() == array.tolist(), name


def test_arrays_in_a_column_are_further_dimensions(tmp_path):
    from mlflow.types import ColSpec, DataType, Schema
    from mlflow.types.schema import Array

    schema = Schema([ColSpec(Array(DataType.double), "point"), ColSpec(Array(DataType.string), "words")])
    body = "return {'sum': [sum(each) for each in model_input['point']], 'first': [w[0] for w in model_input['words']]}"
    model = load(made(tmp_path, body, schema))
    assert [spec.shape for spec in model.signatures["default"].inputs] == [(-1, -1), (-1, -1)]
    words = np.array([[b"a", b"b"], [b"c", b"d"]], dtype=object)
    answer = run(model, point=np.array([[1.0, 2.0], [3.0, 4.0]]), words=words)
    assert (answer["sum"].tolist(), answer["first"].tolist()) == ([3.0, 7.0], [b"a", b"c"])


def test_several_tensors_come_by_name_and_text_as_text(tmp_path):
    from mlflow.types import Schema
    from mlflow.types.schema import TensorSpec as Tensor

    inputs = Schema([Tensor(np.dtype("float32"), (-1, 2), "x"), Tensor(np.dtype("str"), (-1,), "name")])
    outputs = Schema([Tensor(np.dtype("float32"), (-1, -1), "twice"), Tensor(np.dtype("str"), (-1,), "name")])
    body = "return {'twice': model_input['x'] * 2, 'name': [name + '!' for name in model_input['name']]}"
    model = load(made(tmp_path, body, inputs, outputs=outputs))
    assert model.signatures["default"].outputs[0] == TensorSpec("twice", "FP32", (-1, -1))
    answer = run(model, x=np.float32([[1, 2]]), name=objects(["a"]))
    assert (answer["twice"].tolist(), answer["name"].tolist()) == ([[2.0, 4.0]], [b"a!"])


def test_a_list_that_type_hints_ask_for_is_one_input(tmp_path):
    code = """
    from mlflow.models import set_model
    from mlflow.pyfunc import PythonModel

    class Made(PythonModel):
        def predict(self, model_input: list[str], params=None) -> list[str]:
            assert type(model_input) is list
            return [text.upper() for text in model_input]

    set_model(Made())
    """
    model = load(builders.from_code(tmp_path, code, input_example=["a"]))
    assert model.signatures["default"].inputs == (TensorSpec("x", "BYTES", (-1,)),)
    assert run(model, x=objects(["ä", "b"]))["predictions"].tolist() == ["Ä".encode(), b"B"]


def test_without_a_signature_the_configuration_says_what_the_inputs_are(tmp_path):
    artefact = made(tmp_path, "return model_input * 2")
    with pytest.raises(LoadFailed, match="has no signature"):
        load(artefact)
    tensor = load(artefact, inputs=(TensorSpec("x", "FP32", (-1, 2)),))
    assert run(tensor, x=np.float32([[1, 2]]))["predictions"].tolist() == [[2, 4]]
    column = load(artefact, inputs=(TensorSpec("a", "INT64", (-1,)),))
    assert run(column, a=np.array([3]))["a"].tolist() == [6]


def test_what_no_tensor_holds_is_refused_by_name(tmp_path):
    from mlflow.types import ColSpec, DataType, Schema
    from mlflow.types.schema import Object, Property

    schema = Schema([ColSpec(Object([Property("a", DataType.long)]), "place")])
    with pytest.raises(LoadFailed, match=r"column 'place' is of .*flatten it into plain columns"):
        load(made(tmp_path, "return [1]", schema))


def test_an_optional_column_may_be_left_out(tmp_path):
    from mlflow.types import ColSpec, Schema

    schema = Schema([ColSpec("double", "a"), ColSpec("double", "b", required=False)])
    model = load(made(tmp_path, "return [len(model_input.columns)] * len(model_input)", schema))
    assert [spec.optional for spec in model.signatures["default"].inputs] == [False, True]
    assert run(model, a=np.zeros(1))["predictions"].tolist() == [1]
    assert run(model, a=np.zeros(1), b=np.zeros(1))["predictions"].tolist() == [2]


# Values


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("return model_input['a']", {"a": [1.0, 2.0]}),
        ("return model_input['a'].tolist()", {"predictions": [1.0, 2.0]}),
        ("return [{'x': each, 'y': 'z'} for each in model_input['a']]", {"x": [1.0, 2.0], "y": [b"z", b"z"]}),
        ("return [[each, 1] for each in model_input['a']]", {"predictions": [[1.0, 1.0], [2.0, 1.0]]}),
        ("return float(model_input['a'].sum())", {"predictions": 3.0}),
        ("return 'done'", {"predictions": b"done"}),
        ("import pandas; return pandas.DataFrame({'p': [[1, 2], [3, 4]]})", {"p": [[1, 2], [3, 4]]}),
        ("from scipy.sparse import csr_matrix; return csr_matrix([[0, 1]])", {"predictions": [[0, 1]]}),
    ],
)
def test_whatever_a_function_answers_becomes_tensors(tmp_path, body, expected):
    model = load(made(tmp_path, body, {"a": "double"}))
    answer = run(model, a=np.array([1.0, 2.0]))
    assert {name: array.tolist() for name, array in answer.items()} == expected
    assert [spec.name for spec in model.signatures["default"].outputs] == list(expected)


def test_an_answer_that_is_no_tensor_is_refused():
    with pytest.raises(ExecutionFailed, match="answers NoneType, str, which no tensor holds"):
        tensors_of({"a": np.array(["x", None], dtype=object)})


def test_whole_numbers_that_become_floats_are_an_error_and_the_reverse_is_not(tmp_path):
    from mlflow.types import ColSpec, Schema

    body = "return [1.5 if each > 1 else 1 for each in model_input['a']]"
    model = load(made(tmp_path, body, {"a": "double"}, outputs=Schema([ColSpec("double")])))
    assert model.signatures["default"].outputs[0].datatype == "INT64", "what it answered, not what it says"
    with pytest.raises(TypeError, match="from dtype"):
        run(model, a=np.array([3.0]))
    body = "return [1.5 if each == 0 else 1 for each in model_input['a']]"
    model = load(made(tmp_path, body, {"a": "double"}, name="reverse"))
    assert run(model, a=np.array([3.0]))["predictions"].dtype == np.float64


def test_a_date_that_is_none_is_the_callers_mistake(tmp_path):
    model = load(made(tmp_path, "return model_input['when'].dt.year", {"when": "datetime"}, input_example=None))
    assert run(model, when=objects(["2024-05-06"]))["when"].tolist() == [2024]
    with pytest.raises(InvalidInput, match="not a date and time of ISO 8601"):
        run(model, when=objects(["yesterday"]))


def test_rows_that_scikit_learn_refuses_are_the_callers_mistake(build):
    built = build(builders.mlflow_columns)
    with pytest.raises(InvalidInput, match="contains NaN"):
        run(load(built.artefact), **{name: np.full(1, np.nan) for name in built.inputs})


def test_code_of_ones_own_is_batched_only_if_the_configuration_says_so(build):
    built = build(builders.mlflow_function)
    assert load(built.artefact).batchable is False
    assert load(built.artefact, batchable=True).batchable is True


def test_parameters_reach_the_model_if_it_declares_them(build):
    built = build(builders.mlflow_function)
    model = load(built.artefact)
    rows = {name: array[:1] for name, array in built.inputs.items()}
    assert run(model, **rows)["total"].tolist() == [6.0]
    assert run(model, {"factor": 10.0, "unknown": 1}, **rows)["total"].tolist() == [30.0]
    with pytest.raises(InvalidInput, match="factor"):
        run(model, {"factor": "much"}, **rows)


# The input example


def test_a_version_is_warmed_with_its_input_example(tmp_path):
    import pandas

    body = "assert (model_input['kind'] == 'tea').all(), 'unheard of'; return model_input['price']"
    types = {"kind": "string", "price": "double"}
    artefact = made(tmp_path, body, types, input_example=pandas.DataFrame({"kind": ["tea"], "price": [2.5]}))
    loaded = load_version(ModelConfig("m"), 1, artefact)
    assert {name: array.tolist() for name, array in loaded.model.example.items()} == {"kind": [b"tea"], "price": [2.5]}
    loaded.close()
    (artefact / "input_example.json").unlink()
    with pytest.raises(LoadFailed, match=r"two rows of example values; save it with an input_example.*unheard of"):
        load(artefact)


def test_an_example_that_does_not_fit_is_no_reason_to_fail(columns, build):
    (columns / "input_example.json").write_text('{"columns": ["a"], "data": [[1]]}')
    assert load(columns).example is None
    width = tuple(TensorSpec(name, "FP32", (-1,)) for name in build(builders.mlflow_columns).inputs)
    example = load(build(builders.mlflow_columns).artefact, inputs=width).example
    assert {array.dtype for array in example.values()} == {np.dtype(np.float32)}


# Trust


def test_a_pickle_is_loaded_only_where_that_is_allowed(pickled, monkeypatch):
    with pytest.raises(LoadFailed, match=r"loaded by mlflow\.sklearn, which may unpickle it.*--allow-pickle"):
        load(pickled)
    model = load(pickled, allow_pickle=True)
    assert (model.batchable, model.user_code) == (True, True)
    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
    with pytest.raises(LoadFailed, match="'MLFLOW_ALLOW_PICKLE_DESERIALIZATION' is not set to 'true'"):
        load(pickled, allow_pickle=True)


def test_types_that_only_the_model_itself_trusts_are_not_trusted(forest):
    with pytest.raises(LoadFailed, match=r'needs types .*options\.trusted = \["sklearn\.tree\._tree\.Tree"\]'):
        load(forest)
    assert load(forest, options={"trusted": [TREE]}).user_code is True
    assert load(forest, allow_pickle=True).user_code is True


@pytest.mark.parametrize(
    "changes",
    [
        {"python_function__loader_module": "mlflow.statsmodels"},
        {"python_function__loader_module": "somebodys.loader"},
        {"python_function__data": "/etc"},
        {"python_function__loader_module": "own_loader", "python_function__code": "../columns"},
        {"python_function__model_path": "../columns/model.skops"},
        {"sklearn__serialization_format": "pickle"},
    ],
)
def test_a_description_that_leads_elsewhere_is_not_followed(columns, changes):
    (columns / "own_loader.py").touch()
    edit(columns, **changes)
    with pytest.raises(LoadFailed, match="may unpickle it"):
        load(columns)


def test_a_second_description_inside_is_not_followed(columns):
    (columns / "inner").mkdir()
    shutil.copy(columns / "MLmodel", columns / "inner")
    with pytest.raises(LoadFailed, match="may unpickle it"):
        load(columns)


def test_a_class_that_is_not_the_librarys_is_not_made(tmp_path, build):
    artefact = Path(shutil.copytree(build(builders.mlflow_boosted).artefact, tmp_path / "boosted"))
    edit(artefact, xgboost__model_class="shelve.open")
    with pytest.raises(LoadFailed, match="may unpickle it"):
        load(artefact)


def test_a_payload_that_is_damaged_is_refused(columns):
    (columns / "model.skops").write_bytes((columns / "model.skops").read_bytes()[:500])
    with pytest.raises(LoadFailed, match=r"model\.skops is not a skops file"):
        load(columns)


@pytest.mark.parametrize("text", ["", "[]", "flavors: 5", "flavors: {}", "flavors: {python_function: 5}", "{", "\0"])
def test_a_description_that_is_none_is_refused(tmp_path, text):
    (tmp_path / "MLmodel").write_text(text)
    with pytest.raises(LoadFailed):
        load(tmp_path)


@pytest.mark.parametrize(
    "flavour",
    [
        builders.lightgbm_flavour,
        builders.lightgbm_estimator_flavour,
        builders.catboost_flavour,
        builders.onnx_flavour,
        builders.keras_flavour,
    ],
)
def test_libraries_own_files_are_loaded_as_they_are(tmp_path, flavour, capfd):
    flavour(tmp_path / "made")
    model = load(tmp_path / "made")
    assert (model.batchable, model.user_code) == (True, False)
    (spec,) = model.signatures["default"].inputs
    rows = builders.iris()[0].to_numpy()[::50].astype(spec.dtype)
    capfd.readouterr()
    answer = run(model, **{spec.name: rows})
    assert capfd.readouterr().out == ""
    for name, expected in builders.answered(tmp_path / "made", rows).items():
        same = np.allclose if expected.dtype.kind == "f" else np.array_equal
        assert same(answer[name], expected), name


@pytest.mark.parametrize("name", ["custom_objects.cloudpickle", "model.h5"])
def test_what_may_hold_code_beside_a_network_is_refused(tmp_path, name):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / name).touch()
    conf = "{data: data, loader_module: mlflow.tensorflow}"
    (tmp_path / "MLmodel").write_text(f"flavors: {{python_function: {conf}, tensorflow: {{data: data}}}}")
    with pytest.raises(LoadFailed, match="may unpickle it"):
        load(tmp_path)


def test_damaged_trees_are_refused_before_lightgbm_ends_the_process(tmp_path):
    builders.lightgbm_flavour(tmp_path / "made")
    file = tmp_path / "made" / "model.lgb"
    file.write_bytes(file.read_bytes()[:1500])
    with pytest.raises(LoadFailed, match=r"model\.lgb is damaged"):
        load(tmp_path / "made")


# Code in the folder


def test_models_do_not_meet_each_others_modules(tmp_path):
    answers = []
    for number in ("one", "two"):
        source = tmp_path / number
        source.mkdir()
        (source / "shared_name.py").write_text(f"NUMBER = {number!r}")
        body = "return [shared_name.NUMBER] * len(model_input)"
        code = f"import shared_name\n{MODEL.format(body=body)}"
        sys.path.insert(0, str(source))  # as MLflow imports the code once to save it
        try:
            artefact = builders.from_code(source, code, {"a": "double"}, code_paths=[str(source / "shared_name.py")])
        finally:
            sys.path.remove(str(source))
            sys.modules.pop("shared_name", None)
        path = list(sys.path)
        model = load(artefact)
        answers.append(run(model, a=np.zeros(1))["predictions"].tolist())
        assert sys.path == path
        assert "shared_name" not in sys.modules
    assert answers == [[b"one"], [b"two"]]


def test_a_loader_among_the_folders_own_modules_is_visible_code(tmp_path):
    import mlflow.pyfunc
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, Schema

    (tmp_path / "own_loader.py").write_text(
        "from pathlib import Path\n\n"
        "class Made:\n"
        "    def __init__(self, path):\n"
        "        self.factor = float(Path(path).read_text())\n\n"
        "    def predict(self, frame, params=None):\n"
        "        return frame['a'] * self.factor\n\n"
        "_load_pyfunc = Made\n"
    )
    (tmp_path / "factor.txt").write_text("3")
    saved = {"loader_module": "own_loader", "code_paths": [str(tmp_path / "own_loader.py")], **builders.FEW}
    signature = ModelSignature(Schema([ColSpec("double", "a")]))
    data = str(tmp_path / "factor.txt")
    mlflow.pyfunc.save_model(tmp_path / "made", data_path=data, signature=signature, **saved)
    assert run(load(tmp_path / "made"), a=np.array([2.0]))["a"].tolist() == [6.0]


def test_code_that_sets_no_model_does_not_get_the_one_before(tmp_path):
    artefact = made(tmp_path, "return [1]", {"a": "double"})
    load(artefact).close()
    (artefact / "made_code.py").write_text("nothing = True")
    with pytest.raises(LoadFailed, match="set_model"):
        load(artefact)


def test_code_that_fails_says_why_without_the_servers_folders(tmp_path):
    artefact = made(tmp_path, "return [1]", {"a": "double"})
    (artefact / "made_code.py").write_text("import nothing_of_that_name")
    with pytest.raises(LoadFailed, match="No module named 'nothing_of_that_name'") as raised:
        load(artefact)
    assert str(tmp_path) not in raised.value.message


# Folders


def test_it_is_found_by_its_description(tmp_path, columns):
    version = tmp_path / "repository" / "flowers" / "3"
    version.parent.mkdir(parents=True)
    columns.rename(version)
    assert find_artefact(version) == version


def test_another_device_is_refused(build):
    with pytest.raises(LoadFailed, match="served on the CPU"):
        RUNTIME.load(ModelConfig("m"), build(builders.mlflow_columns).artefact, "cuda:0")
