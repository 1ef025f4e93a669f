import pytest

from bcx.data.check import check_folder
from bcx.errors import DataError


@pytest.fixture
def folder(tmp_path, draw, draw_mask):
    for label in ("normal", "benign", "malignant"):
        for name in "abc":
            draw(tmp_path / label / f"{name}.png")
    draw_mask(tmp_path / "benign/a_mask.png", (1, 1, 9, 9))
    return tmp_path


def test_a_good_folder_has_no_problems(folder, task):
    done = []
    report = check_folder(folder, task=task, kind="folder", on_file=lambda *counts: done.append(counts))
    assert report.problems == []
    assert len(report.records) == 9
    assert report.notes[0] == "Scans are 48 to 48 pixels wide (median 48), 40 to 40 high (median 40)."
    assert done == [(n, 9) for n in range(1, 10)]


def test_every_bad_file_is_listed(folder, task, draw, draw_mask):
    content = (folder / "normal/a.png").read_bytes()
    (folder / "normal/a.png").write_bytes(content[: len(content) // 2])
    (folder / "normal/text.png").write_text("text")
    draw_mask(folder / "benign/b_mask.png", (1, 1, 9, 9), size=(40, 48))
    (folder / "malignant/copy.png").write_bytes((folder / "malignant/a.png").read_bytes())
    (folder / "benign/wrong.png").write_bytes((folder / "malignant/b.png").read_bytes())
    draw(folder / "cyst/a.png")
    found = [str(problem) for problem in check_folder(folder, task=task, kind="folder").problems]
    assert len(found) == 6
    for names in (
        ["normal/a.png: "],
        ["'normal/text.png' is called a picture"],
        ["benign/b.png: ", "'b_mask.png' has 40 x 48 pixels, its scan 48 x 40"],
        ["different groups", "'malignant/a.png'", "'malignant/copy.png'"],
        ["different labels (benign, malignant)", "'benign/wrong.png'", "'malignant/b.png'"],
        ["'cyst' holds pictures"],
    ):
        assert any(all(name in problem for name in names) for problem in found), names


def test_a_wrong_folder_is_one_problem(tmp_path, task):
    report = check_folder(tmp_path, task=task, kind="folder")
    assert [type(problem) for problem in report.problems] == [DataError]
    assert report.records == []


def test_a_fold_without_a_class_is_a_problem(folder, task):
    rows = [f"{label}/{name}.png,{label},{int(name == 'c')}" for label in ("benign", "malignant") for name in "abc"]
    (folder / "scans.csv").write_text("\n".join(["file,label,fold", *rows[:-1]]))
    report = check_folder(folder / "scans.csv", task=task, kind="manifest")
    assert {record.fold for record in report.records} == {0, 1}
    assert [problem.found for problem in report.problems] == ["Fold 1 holds no malignant."]
    assert any("No normal" in note for note in report.notes)


def test_groups_with_two_labels_and_empty_masks_are_noted(folder, task, draw_mask):
    draw_mask(folder / "black.png", (0, 0, 0, 0))
    (folder / "scans.csv").write_text(
        "file,label,group,mask\nbenign/a.png,benign,anna,black.png\nmalignant/a.png,malignant,anna,\n"
    )
    notes = " ".join(check_folder(folder / "scans.csv", task=task, kind="manifest").notes)
    assert "'manifest:anna'" in notes
    assert "Empty masks: 1 benign" in notes


def test_busi_contents_are_compared_with_the_manifest(tmp_path, task, draw):
    """A folder with BUSI's names and other pictures: every file is named."""
    from bcx.data.busi import busi_rows

    dev = [row for row in busi_rows() if row.split == "dev"]
    picture = draw(tmp_path / "x.png").read_bytes()
    for row in dev:
        (tmp_path / "set" / row.label).mkdir(parents=True, exist_ok=True)
        (tmp_path / "set" / row.file).write_bytes(picture)
    report = check_folder(tmp_path / "set", task=task, kind="busi")
    text = " ".join(problem.found for problem in report.problems)
    assert sum(f"'{row.file}' is not the picture" in text for row in dev) == 651
    assert "different labels" in text
    assert any("0 of 651 files are the published ones byte for byte" in note for note in report.notes)
