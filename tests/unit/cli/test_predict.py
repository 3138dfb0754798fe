import json

import numpy as np
import pytest


def test_an_npy_file_is_predicted_in_batches_to_each_kind_of_output(inferd, models, tmp_path):
    expected = np.load(models / "y.npy")
    for suffix in ("npy", "npz", "csv", "json"):
        out = tmp_path / f"out.{suffix}"
        code, stdout, stderr = inferd("predict", models / "iris", models / "x.npy", "--output", "label", "-o", out)
        assert (code, stdout) == (0, ""), stderr
    assert np.load(tmp_path / "out.npy").tolist() == expected.tolist()
    assert np.load(tmp_path / "out.npz")["label"].tolist() == expected.tolist()
    assert (tmp_path / "out.csv").read_text().split() == ["label", *map(str, expected)]
    assert json.loads((tmp_path / "out.json").read_text()) == {"predictions": expected.tolist()}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.csv", "out.json", "out.npy", "out.npz"]


def test_each_kind_of_input_gives_the_same_answer(inferd, models, tmp_path):
    rows = np.load(models / "x.npy")[:70].astype(np.float32)
    np.savez(tmp_path / "rows.npz", X=rows)
    (tmp_path / "bare.json").write_text(json.dumps(rows.tolist()))
    (tmp_path / "body.json").write_text(json.dumps({"inputs": {"X": rows.tolist()}, "outputs": ["label"]}))
    (tmp_path / "rows.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows.tolist()))
    np.savetxt(tmp_path / "rows.csv", rows, delimiter=",", header="a,b,c,d", comments="")
    expected = {"predictions": np.load(models / "y.npy")[:70].tolist()}
    for name in ("rows.npz", "bare.json", "body.json", "rows.jsonl", "rows.csv"):
        code, stdout, stderr = inferd("predict", models / "iris", tmp_path / name, "--output", "label")
        assert code == 0, stderr
        assert json.loads(stdout) == expected, name


def test_csv_columns_are_found_by_input_name_whatever_their_order(inferd, repeat, tmp_path):
    (tmp_path / "rows.csv").write_text('\ufeffid,times,text\n1,2,"a,b"\n\n2,3,é\n', encoding="utf-8")
    code, stdout, stderr = inferd("predict", repeat, tmp_path / "rows.csv")
    assert code == 0, stderr
    assert json.loads(stdout)["predictions"] == [{"length": 6, "shout": "A,B"}, {"length": 6, "shout": "é"}]


def test_several_outputs_are_columns_of_a_csv(inferd, repeat, tmp_path):
    (tmp_path / "rows.jsonl").write_text('{"text": "hi, there", "times": 1}\n')
    assert inferd("predict", repeat, tmp_path / "rows.jsonl", "-o", tmp_path / "out.csv")[0] == 0
    assert (tmp_path / "out.csv").read_bytes() == b'length,shout\r\n9,"HI, THERE"\r\n'


def test_text_is_written_to_npy_without_pickle(inferd, repeat, tmp_path):
    (tmp_path / "rows.csv").write_text("text,times\nab,1\ncde,1\n")
    out = tmp_path / "out.npy"
    assert inferd("predict", repeat, tmp_path / "rows.csv", "--output", "shout", "-o", out)[0] == 0
    assert np.load(out, allow_pickle=False).tolist() == ["AB", "CDE"]


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("rows.csv", "text,times\na,1\nb,x\n", "row 2, column 'times': 'x' is no INT64 value"),
        ("rows.csv", "text,times\na,1\nb\n", "row 2: 1 values under 2 columns"),
        ("rows.csv", "text,tims\na,1\n", "the CSV lacks the columns times; it has text, tims"),
        ("rows.csv", "text,times\na,9223372036854775808\n", "'9223372036854775808' is no INT64 value"),
        ("rows.csv", "text,times\n", "holds no rows"),
        ("rows.csv", "", "holds no rows"),
        ("rows.json", '[{"text": "a"}]', "input 'times' is missing"),
        ("rows.json", '[{"text": "a", "times": 1.5}]', "instances[0].times is 1.5"),
        ("rows.json", "[", ""),
        ("rows.json", "[]", "holds no rows"),
        ("rows.npy", "not numpy", "is not a readable array file"),
        ("rows.txt", "a", "the suffix must be .json, .jsonl, .csv, .npy or .npz"),
        ("rows.csv", "text,times\na,1\nb,13\n", "rows 1 to 2: 13 is bad luck"),
        ("rows.csv", "text,times\na,99\n", "rows 1 to 1: the model failed"),
    ],
)
def test_bad_rows_are_one_line_and_exit_code_1_and_leave_no_file(inferd, repeat, tmp_path, name, content, says):
    (tmp_path / name).write_text(content)
    code, stdout, stderr = inferd("predict", repeat, tmp_path / name, "-o", tmp_path / "out.json")
    assert (code, stdout) == (1, "")
    assert says in stderr.splitlines()[-1]
    assert not (tmp_path / "out.json").exists()
    assert not (tmp_path / "out.json.part").exists()


def test_a_pickled_array_is_refused(inferd, repeat, tmp_path):
    np.savez(tmp_path / "rows.npz", text=np.array(["a", None], dtype=object), times=np.array([1, 2]))
    code, _, stderr = inferd("predict", repeat, tmp_path / "rows.npz")
    assert code == 1
    assert "is not a readable array file" in stderr


def test_inputs_that_differ_in_rows_are_refused(inferd, repeat, tmp_path):
    np.savez(tmp_path / "rows.npz", text=np.array(["a", "b"]), times=np.array([1]))
    code, _, stderr = inferd("predict", repeat, tmp_path / "rows.npz")
    assert code == 1
    assert "the inputs differ in their number of rows: {'text': 2, 'times': 1}" in stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["-o", "out.npy"], "NPY holds one output, there are length, shout"),
        (["-o", "out.txt"], "the suffix must be one of .json, .csv, .npy, .npz"),
        (["-o", "nowhere/out.csv"], "its folder does not exist"),
        (["--output", "lenght"], "no output 'lenght'; did you mean 'length'?"),
    ],
)
def test_an_output_that_cannot_be_written_is_refused_before_any_work(
    inferd, repeat, tmp_path, monkeypatch, arguments, says
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows.csv").write_text("text,times\na,99\n")
    code, _, stderr = inferd("predict", repeat, "rows.csv", *arguments)
    assert code == 2
    assert says in stderr


def test_a_model_that_takes_no_batches_gets_the_whole_file(inferd, tmp_path):
    (tmp_path / "total.py").write_text(
        "import numpy as np\n\n\nclass Total:\n    inputs = {'x': 'FP64[-1, 2]'}\n    outputs = {'sum': 'FP64[]'}\n\n"
        "    def predict(self, x):\n        return np.asarray(x.sum())\n"
    )
    np.save(tmp_path / "x.npy", np.ones((200, 2)))
    out = tmp_path / "out.npy"
    for arguments in ([], ["-o", out]):
        code, stdout, stderr = inferd("predict", f"{tmp_path}/total.py:Total", tmp_path / "x.npy", *arguments)
        assert code == 0, stderr
        if not arguments:
            assert json.loads(stdout) == {"predictions": [400.0]}
    assert np.load(out) == 400.0


def test_padded_batches_keep_every_row(inferd, models, tmp_path):
    toml = models / "iris" / "model.toml"
    toml.write_text("[batching]\nmax_batch_size = 8\nallowed_sizes = [4, 8]\n")
    try:
        code, stdout, stderr = inferd("predict", models / "iris", models / "x.npy", "--output", "label")
    finally:
        toml.unlink()
    assert code == 0, stderr
    assert json.loads(stdout)["predictions"] == np.load(models / "y.npy").tolist()
