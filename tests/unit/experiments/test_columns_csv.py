import numpy as np
import pytest

from inferd.core.errors import MalformedRequest
from inferd.experiments.columns_csv import read_csv_columns

METRICS = """
[[metric]]
name = "click_rate"
kind = "ratio"
column = "clicks"
denominator = "views"
covariate = "past"
"""
HEADER = "unit,variant,converted,clicks,views,past,note\n"


@pytest.fixture
def read(define, tmp_path):
    experiment = define(add=METRICS)

    def read(*texts):
        files = [tmp_path / f"log{i}.csv" for i in range(len(texts))]
        for file, text in zip(files, texts, strict=True):
            file.write_text(text)
        return read_csv_columns(files, experiment)

    return read


def test_rows_become_numbered_units_variants_and_values(read):
    columns = read(HEADER + "a,control,1,2,5,0.5,x\nb,candidate,false,,,,\n\na,control,TRUE,1,1,,\n")
    assert columns.unit_count == 2
    assert columns.unit.tolist() == [0, 1, 0]
    assert columns.variant.tolist() == [0, 1, 0]
    assert columns.values["converted"].tolist() == [1, 0, 1]
    assert np.array_equal(columns.values["clicks"], [2, np.nan, 1], equal_nan=True)
    assert columns.time_s is None


def test_several_files_share_their_units_whatever_the_order_of_columns(read):
    first = "variant,unit,past,views,clicks,converted\ncontrol,a,1,2,3,0\n"
    columns = read(first, HEADER + "a,control,1,,,,\n")
    assert columns.unit_count == 1
    assert columns.values["converted"].tolist() == [0, 1]


@pytest.mark.parametrize(
    "cell", ["1700000000", "2023-11-14T22:13:20Z", "2023-11-14T22:13:20", "2023-11-14T23:13:20+01:00"]
)
def test_times_are_seconds_or_iso(read, cell):
    header = HEADER.replace("note", "timestamp")
    assert read(header + f"a,control,1,,,,{cell}\n").time_s.tolist() == [1_700_000_000]


def test_times_count_only_where_every_file_has_them(read):
    timed = HEADER.replace("note", "timestamp") + "a,control,1,,,,0\n"
    assert read(timed, HEADER + "b,control,1,,,,\n").time_s is None


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ("a,contrl,1,,,,", "line 3, column 'variant': 'contrl' is no variant; did you mean 'control'?"),
        (",control,1,,,,", "line 3, column 'unit': is empty"),
        ("a,control,2,,,,", "line 3, column 'converted': '2' is neither 0 nor 1"),
        ("a,control,1,abc,,,", "line 3, column 'clicks': 'abc' is no finite number"),
        ("a,control,1,nan,,,", "line 3, column 'clicks': 'nan' is no finite number"),
        ("a,control,1,1,-1,,", "line 3, column 'views': '-1' is below 0"),
        ("a,control,1", "line 3: 3 values under 7 columns"),
        ('a,control,"1', "not readable CSV"),
    ],
)
def test_a_wrong_cell_is_refused_with_its_line_and_column(read, row, says):
    with pytest.raises(MalformedRequest) as caught:
        read(f"{HEADER}a,control,1,,,,\n{row}\n")
    assert says in caught.value.message
    assert "log0.csv" in caught.value.message


@pytest.mark.parametrize(
    ("header", "says"),
    [
        ("unit,variant,convertd,clicks,views,past", "line 1: no column 'converted'; did you mean 'convertd'?"),
        ("user,variant,converted,clicks,views,past", "line 1: no column 'unit'"),
        ("unit,variant,converted,converted,clicks,views,past", "line 1: the column 'converted' is there twice"),
        ("", "line 1: no column 'unit'"),
    ],
)
def test_a_wrong_header_is_refused(read, header, says):
    with pytest.raises(MalformedRequest) as caught:
        read(f"{header}\n")
    assert says in caught.value.message


def test_a_wrong_time_is_refused(read):
    with pytest.raises(MalformedRequest, match="line 2, column 'timestamp': 'noon' is neither ISO 8601"):
        read(HEADER.replace("note", "timestamp") + "a,control,1,,,,noon\n")
