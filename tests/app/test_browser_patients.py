"""In a real browser: folders become patients beside the rows, rows are picked by keyboard, and the table is saved."""

import csv
import io
import zipfile

import pytest
from PIL import Image

from bcx.simulate import simulate

pytestmark = pytest.mark.slow


def saved(page, selector: str) -> bytes:
    with page.expect_download() as started:
        page.click(selector)
    return started.value.path().read_bytes()


def test_folders_are_patients_and_rows_can_be_picked_by_keyboard(page, server, tmp_path):
    for number, folder in enumerate(("ann", "ann", "bea")):
        (tmp_path / "clinic" / folder).mkdir(parents=True, exist_ok=True)
        Image.fromarray(simulate("benign", number, 80, 100).pixels).save(tmp_path / "clinic" / folder / f"{number}.png")
    page.click("role=tab[name=Batch]")
    with page.expect_file_chooser() as chosen:
        page.click("#batch-folder")
    chosen.value.set_files(str(tmp_path / "clinic"))
    page.wait_for_selector(".bcx-progress[data-finished=true][data-done='3']")
    calls = server.classifier.calls
    page.check("#batch-by input[value=folder]")
    page.wait_for_selector("#batch-patients [data-patient=bea]")
    assert page.locator("#batch-patients li").count() == 2
    page.wait_for_selector("a:has(#batch-patients-csv), #batch-patients-csv:visible")
    read = list(csv.DictReader(io.StringIO(saved(page, "#batch-patients-csv").decode())))
    assert [(row["patient"], row["scans"], row["files"]) for row in read] == [
        ("ann", "2", "ann/0.png; ann/1.png"),
        ("bea", "1", "bea/2.png"),
    ]
    page.click("#batch-make-zip")
    page.wait_for_selector("a:has(#batch-zip), #batch-zip:visible")
    with zipfile.ZipFile(io.BytesIO(saved(page, "#batch-zip"))) as archive:
        assert list(csv.DictReader(io.StringIO(archive.read("results.patients.csv").decode()))) == read

    page.check("#batch-by input[value=picked]")
    page.wait_for_selector("#batch-rows [data-mark]")
    assert page.locator("#batch-patients li").count() == 0
    for place in (0, 2):
        page.focus(f"#batch-rows [data-mark='{place}']")
        page.keyboard.press("Space")
    for _ in range(5):  # the server may hear of this before it hears of the last row
        page.focus("#batch-combine")
        page.keyboard.press("Enter")
        page.wait_for_timeout(1000)
        if page.locator("#batch-patients [data-patient='selection 1']").count():
            break
    page.wait_for_selector("#batch-patients [data-patient='selection 1']:has-text('ann/0.png; bea/2.png')")
    page.wait_for_function("() => !document.querySelector('#batch-rows [data-mark]:checked')")
    page.set_viewport_size({"width": 390, "height": 900})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert server.classifier.calls == calls
