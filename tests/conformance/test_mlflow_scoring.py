"""MLflow's scoring protocol over both fronts: the bytes that go in and come out, what callers get wrong, and the
answers of MLflow's own scoring server beside ours."""

import base64
import json
import threading

import numpy as np
import pytest
from fronts_support import Double, Served, request
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import mlflow_builders as builders
from inferd.testing import Client

ROWS = [[1, 2], [3, 4.5]]
PREDICTIONS = b'{"predictions":[[2.0,4.0],[6.0,9.0]]}'


class Mixed:
    """Gives back a number and a text for each row, and may be given points."""

    inputs = {"n": "INT64[-1]", "text": "BYTES[-1]", "points": "FP32[-1, 2]"}
    outputs = {"n": "INT64[-1]", "text": "BYTES[-1]"}
    batchable = True
    gate = threading.Event()

    def predict(self, n, text, points=None):
        return {"n": n if points is None else n + points[:, 0].astype(np.int64), "text": text}


class Fixed:
    """Takes one matrix of a fixed size."""

    inputs = {"x": "FP32[2, 2]"}
    outputs = {"y": "FP32[2, 2]", "sum": "FP32[1]"}
    gate = threading.Event()

    def predict(self, x):
        return {"y": x, "sum": np.float32([x.sum()])}


class Uneven:
    """Rows in, but not one answer a row."""

    inputs = {"x": "FP32[-1, 2]"}
    outputs = {"most": "FP32[-1]", "sums": "FP32[-1]"}
    gate = threading.Event()

    def predict(self, x):
        return {"most": x.max(axis=0)[:1], "sums": x.sum(axis=1)}


def house():
    """A regression that knows its features: ten times the height and the width."""
    import pandas
    from sklearn.linear_model import LinearRegression

    frame = pandas.DataFrame({"height": [1.0, 2, 3, 4], "width": [1.0, 0, 2, 5]})
    model = LinearRegression().fit(frame, 10 * frame["height"] + frame["width"])
    model.gate = threading.Event()
    return model


@pytest.fixture(scope="module", params=["hot", "asgi"])
def double(request):
    served = Served(Double(), front=request.param, protocols=("mlflow",))
    yield served
    served.stop()


@pytest.fixture(scope="module")
def serve():
    """A server of the model that is asked for."""
    made = {}

    def get(make):
        if make not in made:
            made[make] = Served(make(), protocols=("mlflow",))
        return made[make]

    yield get
    for each in made.values():
        each.stop()


def invoke(body, content_type="application/json", *headers):
    body = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"Content-Type: {content_type}"] if content_type else []
    return request("/invocations", body, headers=[*lines, *headers])


def rounded(reply):
    return np.round(reply.json["predictions"], 6).tolist()


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        ({"dataframe_split": {"columns": ["a", "b"], "index": [0, 1], "data": ROWS}}, "application/json"),
        ({"dataframe_split": {"columns": [0, 1], "data": ROWS}}, "application/json"),
        ({"dataframe_split": {"data": ROWS}}, None),
        ({"dataframe_split": {"columns": ["x"], "data": [[row] for row in ROWS]}}, "application/json"),
        ({"dataframe_records": [{"a": 1, "b": 2}, {"a": 3, "b": 4.5}]}, "application/json; charset=utf-8"),
        ({"dataframe_records": [{"x": row} for row in ROWS]}, "application/json"),
        ({"instances": ROWS}, "application/json"),
        ({"instances": [{"x": row} for row in ROWS]}, "application/json"),
        ({"instances": [{"a": 1, "b": 2}, {"a": 3, "b": 4.5}]}, "application/json"),
        ({"inputs": ROWS}, "application/json"),
        ({"inputs": {"x": ROWS}}, "application/json"),
        ({"inputs": {"a": [1, 3], "b": [2, 4.5]}}, "application/json"),
        ({"inputs": ROWS, "params": {"depth": 3}}, "application/json"),
        ({"inputs": ROWS, "params": None}, "application/json"),
        (b"a,b\n1,2\n3,4.5\n", "text/csv"),
        (b",a,b\r\n0,1,2\r\n1,3,4.5\r\n", "text/csv; charset=utf-8"),
    ],
)
def test_each_form_gives_the_golden_answer(double, body, content_type):
    reply = double.ask(invoke(body, content_type))
    assert (reply.status, reply.body) == (200, PREDICTIONS)
    assert reply.headers["content-type"] == "application/json"
    assert reply.headers["inferd-model"] == "double"


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        ({"dataframe_split": {"columns": ["a", "b"], "data": []}}, "application/json"),
        ({"dataframe_records": []}, "application/json"),
        ({"instances": []}, "application/json"),
        ({"inputs": []}, "application/json"),
        (b"a,b\n", "text/csv"),
    ],
)
def test_no_rows_are_no_answers(double, body, content_type):
    assert double.ask(invoke(body, content_type)).body == b'{"predictions":[]}'


def test_a_nan_that_json_cannot_answer_is_the_callers(double):
    reply = double.ask(request("/invocations", b"a,b\n1,\n", headers=["Content-Type: text/csv"]))
    assert (reply.status, reply.json["error_code"]) == (400, "INVALID_PARAMETER_VALUE")


def test_the_probes_answer(double):
    for path in ("/ping", "/health"):
        reply = double.get(path)
        assert (reply.status, reply.body) == (200, b"\n")
    assert double.get("/version").body.split(b".")[0] == b"3"


# Columns


@pytest.mark.parametrize(
    "body",
    [
        {"dataframe_split": {"columns": ["width", "height"], "data": [[7, 1], [8, 2]]}},
        {"dataframe_records": [{"width": 7, "height": 1}, {"height": 2, "width": 8}]},
        {"instances": [{"width": 7, "height": 1}, {"width": 8, "height": 2}]},
        {"inputs": {"width": [7, 8], "height": [1, 2]}},
        {"inputs": [{"width": 7, "height": 1}, {"width": 8, "height": 2}]},
        {"dataframe_split": {"columns": [0, 1], "data": [[1, 7], [2, 8]]}},
        {"instances": [[1, 7], [2, 8]]},
        {"inputs": [[1, 7], [2, 8]]},
    ],
)
def test_features_are_found_by_name_and_without_names_by_order(serve, body):
    assert rounded(serve(house).ask(invoke(body))) == [17, 28]


def test_a_csv_headers_names_are_features(serve):
    assert rounded(serve(house).ask(invoke(b"width,height\n7,1\n8,2\n", "text/csv"))) == [17, 28]
    assert rounded(serve(house).ask(invoke(b',"width", height\n0,7,1\n1,8,2\n', "text/csv"))) == [17, 28]


@pytest.mark.parametrize(
    "body",
    [
        {"dataframe_split": {"columns": ["text", "n"], "data": [["ü", -1], ["b", 9007199254740993]]}},
        {"dataframe_records": [{"n": -1, "text": "ü"}, {"n": 9007199254740993, "text": "b"}]},
        {"instances": [{"n": -1, "text": "ü"}, {"n": 9007199254740993, "text": {"b64": "Yg=="}}]},
        {"inputs": {"text": ["ü", "b"], "n": [-1, 9007199254740993]}},
    ],
)
def test_each_input_is_a_column_of_its_own_in_any_order(serve, body):
    answer = '{"predictions":[{"n":-1,"text":"ü"},{"n":9007199254740993,"text":"b"}]}'
    assert serve(Mixed).ask(invoke(body)).body == answer.encode()


def test_a_cell_may_hold_a_row_of_its_input(serve):
    rows = [{"n": 1, "text": "a", "points": [10, 0]}, {"n": 2, "text": "b", "points": [20, 0]}]
    split = {"columns": ["points", "text", "n"], "data": [[[10, 0], "a", 1], [[20, 0], "b", 2]]}
    for body in (
        {"dataframe_records": rows},
        {"dataframe_split": split},
        {"inputs": [[1, "a", [10, 0]], [2, "b", [20, 0]]]},
    ):
        assert [each["n"] for each in serve(Mixed).ask(invoke(body)).json["predictions"]] == [11, 22]


def test_csv_fills_inputs_of_one_value_a_row(serve):
    reply = serve(Mixed).ask(invoke('text,n\n"a ""b"", c",5\nü,6\n'.encode(), "text/csv"))
    assert reply.json["predictions"] == [{"n": 5, "text": 'a "b", c'}, {"n": 6, "text": "ü"}]
    reply = serve(Mixed).ask(invoke(b"n,text,points\n1,a,2\n", "text/csv"))
    assert (reply.status, "'points' is FP32[-1, 2]" in reply.json["message"]) == (400, True)


@pytest.mark.parametrize(
    ("make", "columns", "words"),
    [
        (house, ["height"], "the column 'width' is missing; the model takes 'height', 'width'"),
        (house, ["height", "width", "depth"], "the column 'depth' is unknown; the model takes 'height', 'width'"),
        (
            house,
            ["height", "widht"],
            "the column 'width' is missing and the column 'widht' is unknown (did you mean 'width'?); the model takes",
        ),
        (house, ["a", "b"], "the columns 'height', 'width' are missing and the columns 'a', 'b' are unknown"),
        (Mixed, ["n"], "the column 'text' is missing; the model takes 'n', 'text', 'points'"),
        (Mixed, ["n", "text", "x"], "the column 'x' is unknown"),
        (house, ["height", "height"], "column 'height' is given twice"),
        (Double, ["a"], "the table has 1 column where the model takes 2"),
    ],
)
def test_missing_and_unknown_columns_are_named(serve, make, columns, words):
    row = [1] * len(columns)
    bodies = [({"dataframe_split": {"columns": columns, "data": [row]}}, "application/json")]
    bodies.append(("\n".join([",".join(columns), ",".join(map(str, row)), ""]).encode(), "text/csv"))
    if len(set(columns)) == len(columns):
        bodies.append(({"dataframe_records": [dict(zip(columns, row, strict=True))]}, "application/json"))
    for body, content_type in bodies:
        reply = serve(make).ask(invoke(body, content_type))
        assert (reply.status, reply.json["error_code"]) == (400, "INVALID_PARAMETER_VALUE")
        assert words in reply.json["message"], body


@pytest.mark.parametrize(
    ("body", "content_type", "words"),
    [
        (
            {"dataframe_split": {"columns": ["a", "b"], "data": [[1, 2], [3, "x"]]}},
            "",
            "dataframe_split.data[1][1] is a string",
        ),
        ({"dataframe_records": [{"a": 1, "b": None}]}, "", "dataframe_records[0].b is null"),
        ({"inputs": {"a": [1], "b": [True]}}, "", "inputs.b[0] is a boolean"),
        ({"instances": [[1, 2], [3]]}, "", "instances[1] has 1 value where"),
        (b"a,b\n1,2\nthree,4\n", "text/csv", "row 2, column 'a' is 'three'"),
    ],
)
def test_a_wrong_cell_is_named(double, body, content_type, words):
    reply = double.ask(invoke(body, content_type or "application/json"))
    assert (reply.status, words in reply.json["message"]) == (400, True), reply.json


# Models that take no rows


def test_a_model_of_a_fixed_size_takes_whole_tensors(serve):
    whole = b'{"predictions":{"y":[[1.0,2.0],[3.0,4.0]],"sum":[10.0]}}'
    assert serve(Fixed).ask(invoke({"inputs": [[1, 2], [3, 4]]})).body == whole
    assert serve(Fixed).ask(invoke({"inputs": {"x": [[1, 2], [3, 4]]}})).body == whole
    assert serve(Fixed).ask(invoke({"instances": [[[1, 2], [3, 4]]]})).status == 200
    for body, kind in (({"dataframe_records": [{"a": 1}]}, "application/json"), (b"a\n1\n", "text/csv")):
        reply = serve(Fixed).ask(invoke(body, kind))
        assert (reply.status, "send its whole tensors as 'inputs'" in reply.json["message"]) == (400, True)


def test_answers_that_are_not_row_by_row_are_whole(serve):
    reply = serve(Uneven).ask(invoke({"instances": [[1, 2], [3, 4]]}))
    assert reply.json == {"predictions": {"most": [3], "sums": [3, 7]}}
    assert serve(Uneven).ask(invoke({"instances": [[1, 2]]})).json == {"predictions": [{"most": 1, "sums": 3}]}


# What is wrong

SPLIT = {"columns": ["a", "b"], "data": ROWS}
WRONG = {
    "nothing": (b"", "application/json", 400),
    "broken JSON": (b'{"instances": [[1, 2]', "application/json", 400),
    "a number": (b"5", "application/json", 400),
    "a bare list": (ROWS, "application/json", 400),
    "an empty object": ({}, "application/json", 400),
    "two forms": ({"instances": ROWS, "inputs": ROWS}, "application/json", 400),
    "params alone": ({"params": {}}, "application/json", 400),
    "an unknown member": ({"instances": ROWS, "data": 1}, "application/json", 400),
    "MLflow 1's frame": (SPLIT, "application/json", 400),
    "MLflow 1's content type": (SPLIT, "application/json; format=pandas-split", 400),
    "params that are a list": ({"instances": ROWS, "params": []}, "application/json", 400),
    "a split frame that is a list": ({"dataframe_split": ROWS}, "application/json", 400),
    "a split frame without data": ({"dataframe_split": {"columns": ["a", "b"]}}, "application/json", 400),
    "a split frame with more": ({"dataframe_split": {**SPLIT, "dtypes": []}}, "application/json", 400),
    "columns that are no names": (
        {"dataframe_split": {"columns": [["a"], None], "data": ROWS}},
        "application/json",
        400,
    ),
    "columns that are a text": ({"dataframe_split": {"columns": "ab", "data": ROWS}}, "application/json", 400),
    "columns that are true": ({"dataframe_split": {"columns": [True, False], "data": ROWS}}, "application/json", 400),
    "no columns": ({"dataframe_split": {"columns": [], "data": [[]]}}, "application/json", 400),
    "data that is an object": ({"dataframe_split": {"columns": ["a"], "data": {}}}, "application/json", 400),
    "a row that is no row": ({"dataframe_split": {"data": [1, 2]}}, "application/json", 400),
    "ragged rows": ({"dataframe_split": {"data": [[1, 2], [3]]}}, "application/json", 400),
    "rows wider than columns": ({"dataframe_split": {"columns": ["a"], "data": ROWS}}, "application/json", 400),
    "records that are an object": ({"dataframe_records": {"a": 1}}, "application/json", 400),
    "records that are rows": ({"dataframe_records": ROWS}, "application/json", 400),
    "records that differ": ({"dataframe_records": [{"a": 1, "b": 2}, {"a": 1, "c": 2}]}, "application/json", 400),
    "an empty record": ({"dataframe_records": [{}]}, "application/json", 400),
    "records and rows": ({"instances": [{"a": 1, "b": 2}, [1, 2]]}, "application/json", 400),
    "rows and records": ({"instances": [[1, 2], {"a": 1, "b": 2}]}, "application/json", 400),
    "inputs without any": ({"inputs": {}}, "application/json", 400),
    "inputs that are null": ({"inputs": None}, "application/json", 400),
    "instances that are a text": ({"instances": "ab"}, "application/json", 400),
    "columns of other lengths": ({"inputs": {"a": [1], "b": [2, 3]}}, "application/json", 400),
    "a column that is a number": ({"inputs": {"a": 1, "b": 2}}, "application/json", 400),
    "a bare NaN": (b'{"instances": [[NaN, 1]]}', "application/json", 400),
    "1e400": (b'{"instances": [[1e400, 1]]}', "application/json", 400),
    "beyond FP32": ({"instances": [[1e39, 1]]}, "application/json", 400),
    "repeated names": (b'{"instances": [[1, 2]], "instances": [[1, 2]]}', "application/json", 400),
    "deep nesting": (b'{"instances": ' + b"[" * 5000 + b"]" * 5000 + b"}", "application/json", 400),
    "5,000 digits": (b'{"instances": [[1, ' + b"9" * 5000 + b"]]}", "application/json", 400),
    "a byte order mark": (b'\xef\xbb\xbf{"instances": [[1, 2]]}', "application/json", 400),
    "bad UTF-8": (b'{"dataframe_records": [{"\xff": 1}]}', "application/json", 400),
    "too few values": ({"instances": [[1]]}, "application/json", 400),
    "CSV without anything": (b"", "text/csv", 400),
    "CSV without a header": (b"1,2\n3,x\n", "text/csv", 400),
    "a header of another width": (b"a,b,c\n1,2,3\n", "text/csv", 400),
    "a short row": (b"a,b\n1\n", "text/csv", 400),
    "a long row": (b"a,b\n1,2,3\n", "text/csv", 400),
    "an open quote": (b'a,b\n1,"2\n', "text/csv", 400),
    "a cell that is no number": (b"a,b\n1,x\n", "text/csv", 400),
    "a cell beyond FP32": (b"a,b\n1,1e39\n", "text/csv", 400),
    "CSV that is not UTF-8": (b"a,b\n1,\xff\n", "text/csv", 400),
    "a header with one name twice": (b"a,a\n1,2\n", "text/csv", 400),
    "Parquet": (b"PAR1", "application/vnd.apache.parquet", 415),
    "another charset": (b"a,b\n1,2\n", "text/csv; charset=latin-1", 415),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_refused_and_the_server_goes_on(double, name):
    body, content_type, status = WRONG[name]
    reply = double.ask(invoke(body, content_type))
    assert reply.status == status, reply.body
    assert reply.headers["content-type"] == "application/json"
    assert list(reply.json) == ["error_code", "message"]
    assert reply.json["error_code"] in ("BAD_REQUEST", "INVALID_PARAMETER_VALUE")
    assert "Traceback" not in reply.json["message"]
    assert double.ask(invoke({"inputs": ROWS})).body == PREDICTIONS


VALUES = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(["", "a", "b", "x", "height", "width"])
)
NAMES = st.sampled_from(["columns", "data", "index", "height", "width", "n", "text", "x", "b64"])
TREES = st.recursive(
    VALUES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3), max_leaves=12
)
FORMS = st.sampled_from(["dataframe_split", "dataframe_records", "instances", "inputs"])
BODIES = st.dictionaries(FORMS | st.just("params"), TREES, max_size=2).map(lambda tree: json.dumps(tree).encode())


@pytest.mark.parametrize("make", [house, Mixed, Fixed])
@settings(max_examples=150, suppress_health_check=list(HealthCheck))
@given(
    st.tuples(BODIES, st.just("application/json")) | st.tuples(st.text('ab,"\n1ü').map(str.encode), st.just("text/csv"))
)
def test_nothing_that_is_sent_gets_a_5xx(serve, make, sent):
    body, content_type = sent
    reply = serve(make).ask(invoke(body, content_type))
    assert reply.status in (200, 400), (body, reply.body)


def test_other_methods_and_paths_are_refused_in_its_own_shape(double):
    reply = double.get("/invocations")
    assert (reply.status, reply.json["error_code"]) == (405, "BAD_REQUEST")
    assert double.get("/predict").status == 404


def test_the_models_own_refusal_and_failure_keep_their_meaning(double):
    refused = double.ask(invoke({"inputs": [[-1, 0]]}))
    assert (refused.status, refused.json["error_code"]) == (400, "INVALID_PARAMETER_VALUE")
    failed = double.ask(invoke({"inputs": [[-2, 0]]}))
    assert (failed.status, failed.json["error_code"]) == (500, "INTERNAL_ERROR")
    assert b"/etc/shadow" not in failed.body


# MLflow's own models, and its own server

IRIS = {"sepal length (cm)": 5.1, "sepal width (cm)": 3.5, "petal length (cm)": 1.4, "petal width (cm)": 0.2}
IRIS_SPLIT = {"columns": list(IRIS), "index": [0, 1], "data": [list(IRIS.values()), [6.7, 3.0, 5.2, 2.3]]}
PHOTO = base64.b64encode(b"\xff\x00hi").decode()
LINES = base64.encodebytes(bytes(range(256))).decode()
GOODS = {"price": 1.5, "count": 2, "name": "käse"}
SAME = [
    (builders.mlflow_columns, {"dataframe_split": IRIS_SPLIT}),
    (builders.mlflow_columns, {"dataframe_records": [dict(reversed(IRIS.items()))] * 2}),
    (builders.mlflow_columns, {"instances": [IRIS, IRIS]}),
    (builders.mlflow_columns, {"inputs": {name: [value, value] for name, value in IRIS.items()}}),
    (builders.mlflow_columns, ",".join(IRIS) + "\n5.1,3.5,1.4,0.2\n6.7,3.0,5.2,2.3\n"),
    (builders.mlflow_tensor, {"inputs": IRIS_SPLIT["data"]}),
    (builders.mlflow_tensor, {"instances": IRIS_SPLIT["data"]}),
    (builders.mlflow_tensor, {"dataframe_split": IRIS_SPLIT}),
    (builders.mlflow_function, {"dataframe_split": {"columns": list(GOODS), "data": [list(GOODS.values())] * 3}}),
    (builders.mlflow_function, {"dataframe_records": [GOODS], "params": {"factor": 4.0}}),
    (builders.mlflow_function, {"instances": [GOODS], "params": {"factor": 4}}),
    (builders.mlflow_function, "name,count,price\ntea,2,1.5\n"),
    (builders.mlflow_boosted, {"dataframe_split": IRIS_SPLIT}),
    (builders.mlflow_binary, {"dataframe_split": {"columns": ["n", "photo"], "data": [[1, PHOTO], [2, LINES]]}}),
    (builders.mlflow_binary, {"dataframe_records": [{"photo": PHOTO, "n": 1}, {"photo": "", "n": 2}]}),
    (builders.mlflow_binary, {"instances": [{"photo": PHOTO, "n": 1}]}),
    (builders.mlflow_binary, {"inputs": {"photo": [PHOTO], "n": [1]}}),
]
EXACT = (builders.mlflow_function, builders.mlflow_binary)


@pytest.fixture(scope="module")
def pair(build):
    """Ours and MLflow's server of one built model, each as ``ask(body, content_type)`` to status and JSON."""
    import mlflow.pyfunc
    from fastapi.testclient import TestClient
    from mlflow.pyfunc import scoring_server

    made = {}

    def get(builder):
        if builder not in made:
            artefact = str(build(builder).artefact)
            ours = Client(artefact, protocols=("mlflow",))
            made[builder] = (ours, TestClient(scoring_server.init(mlflow.pyfunc.load_model(artefact))))
        return made[builder]

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("_MLFLOW_IS_IN_SERVING_ENVIRONMENT", "true")  # as its server sets it, and put back
        yield get
    for ours, _ in made.values():
        ours.close()


JSON = {"content-type": "application/json"}


@pytest.mark.parametrize(("builder", "body"), SAME)
def test_the_answer_is_that_of_mlflows_own_server(pair, builder, body):
    ours, theirs = pair(builder)
    kind = {"content-type": "text/csv" if isinstance(body, str) else "application/json"}
    content = body if isinstance(body, str) else json.dumps(body)
    expected = theirs.post("/invocations", content=content, headers=kind)
    answer = ours.post("/invocations", content.encode(), kind)
    assert (answer.status, expected.status_code) == (200, 200), (answer.body, expected.text)
    ours_json, theirs_json = json.loads(answer.body), expected.json()
    if builder in EXACT:
        assert ours_json == theirs_json
    else:
        assert np.allclose(ours_json["predictions"], theirs_json["predictions"])


@pytest.mark.parametrize("photo", ["not base64!", "abc", "__-_", None, 5, ["aGk="]])
@pytest.mark.parametrize("form", ["split", "records"])
def test_bytes_that_are_no_base64_are_refused(pair, photo, form):
    ours, _ = pair(builders.mlflow_binary)
    frame = {"columns": ["photo", "n"], "data": [["aGk=", 1], [photo, 1]]}
    if form == "records":
        frame = [dict(zip(frame["columns"], row, strict=True)) for row in frame["data"]]
    answer = ours.post("/invocations", json.dumps({f"dataframe_{form}": frame}).encode(), JSON)
    where = "dataframe_split.data[1][0]" if form == "split" else "dataframe_records[1].photo"
    assert (answer.status, where in json.loads(answer.body)["message"]) == (400, True), answer.body


def test_bytes_may_be_written_as_everywhere_in_inferd(pair):
    ours, _ = pair(builders.mlflow_binary)
    for cell in (PHOTO, {"b64": PHOTO}):
        body = {"dataframe_records": [{"photo": cell, "n": 1}]}
        answer = ours.post("/invocations", json.dumps(body).encode(), JSON)
        (row,) = json.loads(answer.body)["predictions"]
        assert row == {"size": 4, "first": "[255, 0, 104, 105]", "n": 1, "copy": f"{PHOTO}\n"}


def test_the_probes_are_those_of_mlflows_own_server(pair):
    ours, theirs = pair(builders.mlflow_tensor)
    for path in ("/ping", "/health"):
        expected = theirs.get(path)
        answer = ours.get(path)
        assert (answer.status, answer.body) == (expected.status_code, expected.content)
    assert ours.get("/version").headers["content-type"] == theirs.get("/version").headers["content-type"]
