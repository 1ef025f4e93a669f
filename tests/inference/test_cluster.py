"""Shards hold the rows of the local engine, and each is made once; tests/test_on_ray.py has them on a cluster."""

from __future__ import annotations

import csv
import json
import shutil
import sys
import zipfile
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path

import pytest

import bcx
from bcx.cli import main as cli
from bcx.errors import ConfigError, MissingExtra, ScanError
from bcx.inference import cluster, shards, table
from bcx.inference.cluster import Job, answer_shard, run
from bcx.inference.input_files import find
from bcx.inference.shards import Shard, plan_shards
from tests.inference.test_archives import pack

pa = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")
fsspec = pytest.importorskip("fsspec")


@pytest.fixture(scope="module")
def classifier(tiny_checkpoint):
    return bcx.load(tiny_checkpoint)


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    monkeypatch.setattr(shards, "LEAST", 4)


def job_of(classifier, out: Path, form: str = "csv") -> Job:
    out.mkdir(exist_ok=True)
    return Job(str(classifier.folder), classifier.weights_sha256, str(out), form, {"views": 1})


def rows_of(out: Path) -> list[dict[str, str]]:
    """The rows of CSV shards in order, without the seconds that each took."""
    rows = [row for part in sorted(out.glob("part-*.csv")) for row in csv.DictReader(part.open(encoding="utf-8"))]
    return [{name: cell for name, cell in row.items() if name != "seconds"} for row in rows]


def local_rows(classifier, folder: Path, out: Path) -> list[dict[str, str]]:
    pictures = find([str(folder)]).pictures
    answers = classifier.stream(found.source for found in pictures)
    rows = [table.row(answer, found.file, classifier.task) for found, answer in zip(pictures, answers, strict=True)]
    out.mkdir()
    table.write_lines(table.csv_lines(rows, table.columns(classifier.task)), out / "part-local.csv")
    return rows_of(out)


def test_a_folder_is_cut_into_shards_of_its_scans_in_order(busi_folder):
    planned = plan_shards([str(busi_folder)])
    assert [shard.count for shard in planned] == [4, 4, 4]
    files = [entry.file for shard in planned for entry in shard.entries()]
    assert files == [found.file for found in find([str(busi_folder)]).pictures]
    names = [shard.name("csv") for shard in planned]
    assert names == [shard.name("csv") for shard in plan_shards([str(busi_folder)])]
    assert len(set(names)) == 3


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_table_names_scans_from_its_own_folder(tmp_path, kind):
    files = [f"ward/{number}.png" for number in range(10)]
    if kind == "csv":
        (tmp_path / "scans.csv").write_text("\n".join(["file", *files]) + "\n")
    else:
        parquet.write_table(pa.table({"file": files}), tmp_path / "scans.parquet", row_group_size=3)
    planned = plan_shards([str(tmp_path / f"scans.{kind}")])
    assert [shard.count for shard in planned] == [4, 4, 2]
    entries = [(entry.file, entry.where) for shard in planned for entry in shard.entries()]
    assert entries == [(file, str(tmp_path / file)) for file in files]


def test_what_lies_behind_a_url_is_listed_and_read(busi_folder, classifier, tmp_path):
    store = fsspec.filesystem("memory")
    for path in (busi_folder / "benign").iterdir():
        store.pipe_file(f"/archive/{path.name}", path.read_bytes())
    planned = plan_shards(["memory://archive"])
    assert [entry.file for shard in planned for entry in shard.entries()] == [
        f"memory:///archive/{path.name}"
        for path in sorted((busi_folder / "benign").iterdir())
        if "_mask" not in path.name
    ]
    for shard in planned:
        answer_shard(job_of(classifier, tmp_path / "far"), classifier, shard)
    far, near = rows_of(tmp_path / "far"), local_rows(classifier, busi_folder / "benign", tmp_path / "near")
    assert [{**row, "file": ""} for row in far] == [{**row, "file": ""} for row in near]


def test_a_table_without_paths_is_refused(tmp_path):
    parquet.write_table(pa.table({"path": ["a.png"]}), tmp_path / "scans.parquet")
    with pytest.raises(ConfigError, match="a column called file"):
        plan_shards([str(tmp_path / "scans.parquet")])


def test_what_is_not_there_behind_a_url_is_a_typed_error():
    with pytest.raises(ConfigError, match="is a ZIP archive behind a URL"):
        plan_shards(["memory://nowhere/a.zip"])
    with pytest.raises(ConfigError, match="cannot be looked at"):
        plan_shards(["memory://nowhere/a.png"])


def test_an_empty_cell_of_a_table_fails_by_itself(classifier, busi_folder, tmp_path):
    scan = str(next(busi_folder.rglob("*).png")))
    parquet.write_table(pa.table({"file": [scan, None]}), tmp_path / "scans.parquet")
    (shard,) = plan_shards([str(tmp_path / "scans.parquet")])
    assert answer_shard(job_of(classifier, tmp_path / "out"), classifier, shard)["failed"] == 1


@pytest.fixture
def in_process(monkeypatch):
    """Answer shards here, as a worker gets them; the command is otherwise as it is."""

    def answers(ray, job, planned, draw):
        classifier = bcx.load(job.model, **job.options)
        for shard in planned:
            yield answer_shard(job, classifier, Shard(**json.loads(json.dumps(asdict(shard)))), draw)

    monkeypatch.setattr(cluster, "connected", lambda address: nullcontext())
    monkeypatch.setattr(cluster, "_answers", answers)


def predict(*words: object) -> int:
    with pytest.raises(SystemExit) as caught:
        cli.main(["predict", *map(str, words)])
    return caught.value.code or 0


def files_in(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.slow
def test_archives_and_overlays_are_those_of_the_local_engine(in_process, busi_folder, tmp_path, monkeypatch, request):
    monkeypatch.chdir(tmp_path)
    model = request.getfixturevalue("tiny_lesion_checkpoint")
    scan = (busi_folder / "benign" / "benign (1).png").read_bytes()
    shutil.copytree(busi_folder / "malignant", "ward/ward.zip")  # a folder, whose overlays compete for their names
    hostile = {"../out.png": scan, "/root.png": scan, "a/CON.png": scan, "a\\b.png": scan, "a/torn.png": scan[:99]}
    others = {"malignant (1).png": scan, "a/b_mask.png": scan, "notes.txt": b"text", "bomb.png": bytes(1 << 25)}
    pack(tmp_path / "ward.zip", {**hostile, **others})
    with zipfile.ZipFile("locked.zip", "w") as archive:
        archive.writestr("a.png", scan)
    locked = bytearray(Path("locked.zip").read_bytes())
    locked[6] = locked[locked.index(b"PK\1\2") + 8] = 1  # says that it is encrypted
    Path("locked.zip").write_bytes(locked)
    Path("torn.zip").write_bytes(locked[:100])
    asked = ["ward", "ward.zip", "locked.zip", "torn.zip", "--model", model, "--contour", "--out"]
    assert predict(*asked, "near.csv", "--overlays", "near") == 1
    ray = [*asked, "far", "--overlays", "over", "--engine", "ray", "--shards", "csv"]
    assert predict(*ray) == 1
    Path("local").mkdir()
    Path("near.csv").rename("local/part-0.csv")
    assert rows_of(Path("far")) == rows_of(Path("local"))
    assert len(rows_of(Path("far"))) == 13
    made = files_in(Path("over"))
    assert made == files_in(Path("near"))
    for name in ("malignant (1)", "malignant (1).png", "a/_CON"):
        assert f"ward.zip/{name}_overlay.png" in made
    # What is done is not drawn again; a shard that is missing is, with the same bytes.
    before = {path: path.stat().st_mtime_ns for path in Path("over").rglob("*.png")}
    Path("far", sorted(path.name for path in Path("far").glob("part-*"))[0]).unlink()
    assert predict(*ray) == 0, "all of its scans can be read"
    again = {path: path.stat().st_mtime_ns for path in before}
    assert len([path for path in before if again[path] != before[path]]) == 2 * 4
    assert files_in(Path("over")) == made
    assert predict(*ray, "--mask-text") == 2


@pytest.mark.slow
def test_a_tables_overlays_lie_in_folders_of_their_shards(in_process, busi_folder, tmp_path, monkeypatch, classifier):
    monkeypatch.chdir(tmp_path)
    names = [f"benign/benign ({number}).png" for number in (1, 2, 3, 4)]
    rows = [*names, str(busi_folder / names[0]), names[0]]
    parquet.write_table(pa.table({"file": rows}), busi_folder.parent / "scans.parquet")
    store = fsspec.filesystem("memory")
    for name in names[:2]:
        store.pipe_file(f"/ward/{name}", (busi_folder / name).read_bytes())
    (tmp_path / "scans.csv").write_text("\n".join(["file", f"{busi_folder}/../busi/{names[3]}"]) + "\n")
    shutil.copyfile(busi_folder.parent / "scans.parquet", tmp_path / "scans.parquet")
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copyfile(busi_folder / name, tmp_path / name)
    asked = ["memory://ward", "scans.csv", "scans.parquet", "--model", classifier.folder, "--engine", "ray"]
    assert predict(*asked, "--out", "far", "--overlays", "memory://ward/over") == 0
    far = busi_folder.as_posix().strip("/")
    assert sorted(path.removeprefix("/ward/over/") for path in store.find("/ward/over")) == sorted(
        f"{name}_overlay.png"
        for name in (
            *("benign/benign (1)", "benign/benign (2)", f"{far}/busi/benign/benign (4)"),
            *(f"part-000001/{name[:-4]}" for name in names),
            *(f"part-000002/{far}/benign/benign (1)", "part-000002/benign/benign (1)"),
        )
    )
    assert predict(*asked, "--out", "far", "--overlays", "memory://ward/over") == 0, "overlays are no scans"
    assert predict(*asked, "--out", "other", "--overlays", "memory://ward") == 2
    assert predict("benign", *asked[3:], "--out", "other", "--overlays", "benign") == 2


def test_what_has_left_an_archive_says_so(tmp_path, classifier):
    pack(tmp_path / "scans.zip", {"a.png": b"", "b.png": b""})
    (shard,) = plan_shards([str(tmp_path / "scans.zip")])
    pack(tmp_path / "scans.zip", {"a.png": b""})
    assert [entry.member for entry in shard.entries()] == ["a.png", "b.png"]
    with pytest.raises(ScanError, match=r"'b.png' is no longer in the archive 'scans.zip'"):
        shard.entries()[1].source.read()
    (tmp_path / "scans.zip").unlink()
    with pytest.raises(ScanError, match=r"'scans.zip' cannot be opened"):
        shard.entries()[1].source.read()


def test_a_store_without_empty_folders_is_written_to(classifier, monkeypatch):
    store = fsspec.filesystem("memory")
    monkeypatch.setattr(type(store), "makedirs", lambda *_, **__: None)  # as object stores do
    job = Job(str(classifier.folder), classifier.weights_sha256, "memory://fresh/out", "csv", {"views": 1})
    assert cluster._prepare(job, [], True) == set()
    assert store.exists("/fresh/out/_run.json")


@pytest.mark.parametrize("damaged", ["[1]", "3", "null", "{"])
def test_damaged_settings_of_a_run_are_those_of_another(tmp_path, damaged):
    (tmp_path / "_run.json").write_text(damaged)
    (tmp_path / "part-000000-0123456789ab.csv").touch()
    with pytest.raises(ConfigError, match="settings differ"):
        cluster._prepare(Job("model", "0" * 64, str(tmp_path), "csv"), [], True)


def test_shards_hold_the_rows_of_the_local_engine(busi_folder, classifier, tmp_path):
    (tmp_path / "scans").mkdir()
    for path in (busi_folder / "malignant").glob("*).png"):
        (tmp_path / "scans" / path.name).write_bytes(path.read_bytes())
    (tmp_path / "scans" / "empty.png").touch()
    for form in ("csv", "parquet"):
        for shard in plan_shards([str(tmp_path / "scans")]):
            done = answer_shard(job_of(classifier, tmp_path / form, form), classifier, shard)
    assert done["failed"] == 0  # the empty file is in the first shard
    rows = local_rows(classifier, tmp_path / "scans", tmp_path / "local")
    assert rows_of(tmp_path / "csv") == rows
    parts = [parquet.read_table(part) for part in sorted((tmp_path / "parquet").glob("*.parquet"))]
    for row, cells in zip(rows, pa.concat_tables(parts).to_pylist(), strict=True):
        assert row["file"] == cells["file"]
        assert row["decision"] == cells["decision"]
        assert row["p_benign"] == ("" if cells["p_benign"] is None else str(cells["p_benign"]))


def test_a_shard_that_is_there_is_not_made_again(busi_folder, classifier, tmp_path):
    job, planned = job_of(classifier, tmp_path / "out"), plan_shards([str(busi_folder)])
    first = answer_shard(job, classifier, planned[0])
    file = next((tmp_path / "out").glob("part-*"))
    written = file.stat().st_mtime_ns
    again = answer_shard(job, classifier, planned[0])
    assert (first["scans"], again["scans"]) == (4, 4)
    assert file.stat().st_mtime_ns == written


def test_shards_of_another_run_are_refused_or_deleted(busi_folder, classifier, tmp_path):
    job, planned = job_of(classifier, tmp_path / "out"), plan_shards([str(busi_folder)])
    assert cluster._prepare(job, planned, True) == set()
    answer_shard(job, classifier, planned[0])
    assert cluster._prepare(job, planned, True) == {planned[0].name("csv")}
    other = Job(job.model, job.weights_sha256, job.out, "csv", {"views": 2})
    with pytest.raises(ConfigError, match="settings differ: options"):
        cluster._prepare(other, planned, True)
    with pytest.raises(ConfigError, match="1 of other or changed scans"):
        cluster._prepare(job, planned[1:], True)
    assert cluster._prepare(other, planned, False) == set()
    assert json.loads((tmp_path / "out" / "_run.json").read_text())["options"] == {"views": 2}
    assert not list((tmp_path / "out").glob("part-*"))


def test_without_ray_the_pip_line_is_named(monkeypatch, classifier, tmp_path):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtra, match=r"bcx\[cluster\]"):
        next(run(job_of(classifier, tmp_path), []))
