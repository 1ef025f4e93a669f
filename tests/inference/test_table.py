"""The results table, read back by pandas."""

import io
from types import SimpleNamespace

import numpy as np
import pandas
import pytest

from bcx.errors import UnknownFormat
from bcx.inference import table
from bcx.inference.clip import Clip
from bcx.inference.prediction import Failure
from bcx.tasks import get_task

TASK = get_task("breast-ultrasound")


def answer(**changes):
    fields = {
        "label": "benign",
        "confidence": 0.7,
        "decision": "refer",
        "reason": "Not sure, and it says so.",
        "probabilities": {"malignant": 0.2, "benign": 0.7, "normal": 0.1},
        "seconds": 0.0123456,
        "model": "tiny",
        "weights_sha256": "ab" * 32,
        "lesion": None,
        "lesion_box": None,
        "outline_level": 0.3,
        "flags": ["Colour marks.", "Small."],
        "notes": ("first page of 2",),
        "clip": None,
    }
    made = SimpleNamespace(**(fields | changes))
    made.screen = made  # it is small
    return made


def failure():
    error = UnknownFormat("'x.svg' is an SVG.", expected="a raster picture", remedy="Export it as PNG.")
    return Failure("x.svg", error)


def write(rows, target):
    table.write_lines(table.csv_lines(rows, table.columns(TASK)), target)


def test_columns_are_in_the_documented_order():
    documented = "file,label,confidence,decision,p_normal,p_benign,p_malignant,reason,seconds,model,weights_sha256"
    assert ",".join(table.columns(TASK)) == f"{documented},lesion_share,lesion_box,flags,notes,frame"


def test_the_lesion_has_its_share_and_box_where_the_model_has_such_a_map():
    lesion = np.zeros((40, 50), np.float32)
    assert table.row(answer(lesion=lesion), "a.png", TASK)["lesion_share"] == 0
    lesion[10:20, 5:15] = 0.9
    cells = table.row(answer(lesion=lesion, lesion_box=(5, 10, 15, 20)), "a.png", TASK)
    assert (cells["lesion_share"], cells["lesion_box"]) == (0.05, "5 10 15 20")
    for other in (answer(), failure()):
        cells = table.row(other, "a.png", TASK)
        assert (cells["lesion_share"], cells["lesion_box"]) == ("", "")


def test_flags_notes_and_the_frame_stand_at_the_end():
    cells = table.row(answer(), "a.png", TASK)
    assert list(cells.items())[-3:] == [("flags", "Colour marks.; Small."), ("notes", "first page of 2"), ("frame", "")]
    clip = Clip(5, (1, 3), (0,), (), 3, np.zeros((2, 3), np.float32))
    assert table.row(answer(clip=clip), "a.gif", TASK)["frame"] == 4
    assert list(table.row(failure(), "x.svg", TASK).values())[-3:] == ["", "", ""]


def test_written_table_reads_back_the_same(tmp_path):
    rows = [table.row(answer(), 'odd, "name"\n.png', TASK), table.row(failure(), "x.svg", TASK)]
    path = tmp_path / "r.csv"
    write(iter(rows), path)
    read = pandas.read_csv(path, keep_default_na=False)
    assert list(read.columns) == table.columns(TASK)
    assert read.loc[0, "file"] == 'odd, "name"\n.png'
    assert float(read.loc[0, "p_malignant"]) == pytest.approx(0.2)
    assert float(read.loc[0, "p_normal"]) == pytest.approx(0.1)
    assert read.loc[1, "label"] == ""
    assert "Export it as PNG." in read.loc[1, "reason"]
    assert [p.name for p in tmp_path.iterdir()] == ["r.csv"]


@pytest.mark.parametrize("name", ["=1+1.png", "+1.png", "-1.png", "@x.png", "\t=1.png"])
def test_cells_that_would_run_as_formulas_are_made_harmless(name):
    stream = io.StringIO()
    write([table.row(answer(reason=name), name, TASK)], stream)
    read = pandas.read_csv(io.StringIO(stream.getvalue()), keep_default_na=False)
    assert read.loc[0, "file"] == "'" + name
    assert read.loc[0, "reason"] == "'" + name


def test_a_table_that_breaks_off_leaves_the_old_one(tmp_path):
    path = tmp_path / "r.csv"
    write([table.row(answer(), "first.png", TASK)], path)

    def rows():
        yield table.row(answer(), "second.png", TASK)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(rows(), path)
    assert pandas.read_csv(path)["file"].tolist() == ["first.png"]
    assert [p.name for p in tmp_path.iterdir()] == ["r.csv"]


def test_a_file_name_that_is_not_unicode_is_spelled_out(tmp_path):
    path = tmp_path / "r.csv"
    write([table.row(answer(), b"\xff.png".decode(errors="surrogateescape"), TASK)], path)
    assert pandas.read_csv(path).loc[0, "file"] == "\\udcff.png"
