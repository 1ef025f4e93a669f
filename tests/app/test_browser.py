"""The real page, with the shipped model, in a real browser without a window."""

import zipfile

import pandas
import pytest

from bcx.inference import table
from tests.app.conftest import changed, overlay_address, start
from tests.app.test_browser_compare import shown


@pytest.fixture(scope="module")
def server(examples, tmp_path_factory):
    import bcx

    yield from start(bcx.load(), tmp_path_factory.mktemp("shipped"), examples)


def test_an_example_gives_the_full_answer(page, server, examples):
    page.click("#classify-examples [data-pick='1']")
    page.wait_for_selector("#classify-answer [data-label]")
    page.wait_for_selector("#classify-slider img")
    direct = server.classifier.inner.predict(examples / "simulated-benign-1.png")
    assert page.locator("#classify-answer [data-label]").get_attribute("data-decision") == direct.decision
    assert "simulated" in page.inner_text("#classify-answer")
    page.click("#classify-details-box > button")
    page.wait_for_selector("#classify-details .bcx-facts")
    assert shown(page, "#classify-details") == pytest.approx(direct.probabilities, abs=1e-5)
    assert direct.weights_sha256 in page.inner_text("#classify-details")
    texts = [picture.get_attribute("alt") for picture in page.locator("#classify-slider img").element_handles()]
    assert len(texts) == 2
    assert all(texts)


def test_a_file_is_read_as_it_was_chosen(page, server, scans):
    page.set_input_files("#classify-upload input[type=file]", scans["deep.tiff"])
    page.wait_for_selector("#classify-answer [data-label]")
    direct = server.classifier.inner.predict(scans["deep.tiff"])
    page.click("#classify-details-box > button")
    page.wait_for_selector("#classify-details .bcx-facts")
    assert shown(page, "#classify-details") == pytest.approx(direct.probabilities, abs=1e-5)
    assert "16" in page.inner_text("#classify-details")
    # The browser could not show this TIFF by itself: what it shows is the picture that the network was given.
    page.wait_for_function("() => document.querySelector('#classify-slider img')?.naturalWidth === 140")


def test_a_broken_file_gets_words_and_the_next_file_an_answer(page, scans, upload):
    page.set_input_files("#classify-upload input[type=file]", scans["broken.png"])
    page.wait_for_selector("#classify-answer [data-decision='failed']")
    assert "Expected" in page.inner_text("#classify-answer")
    assert not page.locator("#classify-viewer").is_visible()
    page.set_input_files("#classify-upload input[type=file]", upload)
    page.wait_for_selector("#classify-answer [data-label]")
    page.wait_for_selector("#classify-slider img")


def test_a_batch_with_a_broken_file(page, server, scans, upload, tmp_path):
    files = [scans["broken.png"], scans["grey.png"], upload]  # in natural order
    page.click("role=tab[name=Batch]")
    page.set_input_files("#batch-upload input[type=file]", files)
    page.wait_for_selector(".bcx-progress[data-finished=true][data-done='3']")
    assert page.locator("#batch-rows [data-row]").count() == 3
    assert "could not be read" in page.inner_text("#batch-rows [data-row='0']")
    assert "Expected" in page.inner_text("#batch-rows [data-row='0']")

    calls = server.classifier.calls
    page.click("#batch-rows [data-row='1']")
    page.wait_for_selector("#batch-answer [data-label]")
    page.wait_for_selector("#batch-slider img")
    address = overlay_address(page, "batch")
    page.locator("#batch-class input:not(:checked)").first.check()
    changed(page, "batch", address)
    assert server.classifier.calls == calls

    page.wait_for_selector("a:has(#batch-csv), #batch-csv:not([disabled])")
    with page.expect_download() as started:
        page.click("#batch-csv")
    assert started.value.suggested_filename.endswith(".csv")
    started.value.save_as(tmp_path / "r.csv")
    read = pandas.read_csv(tmp_path / "r.csv", keep_default_na=False)
    assert list(read.columns) == [*table.columns(server.classifier.task), "own_label"]
    assert read["file"].tolist() == [path.name for path in files]
    assert read.loc[0, "label"] == ""
    for row, path in ((1, files[1]), (2, files[2])):
        for name, value in server.classifier.inner.predict(path).probabilities.items():
            assert float(read.loc[row, f"p_{name}"]) == pytest.approx(value, abs=1e-5)

    page.click("#batch-make-zip")
    page.wait_for_selector("#batch-zip")
    with page.expect_download() as started:
        page.click("#batch-zip")
    started.value.save_as(tmp_path / "o.zip")
    layers = 1 if server.classifier.inner.predict(files[1]).lesion is None else 2
    assert len(zipfile.ZipFile(tmp_path / "o.zip").namelist()) == 2 * layers


def test_nothing_scrolls_sideways(page):
    page.set_viewport_size({"width": 390, "height": 900})
    page.click("#classify-examples [data-pick='0']")
    page.wait_for_selector("#classify-stages img")
    page.click("#classify-details-box > button")
    page.wait_for_selector("#classify-details .bcx-maps img")
    for width in (390, 1440):
        page.set_viewport_size({"width": width, "height": 900})
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_everything_is_gone_after_the_page_is_closed(page, server, upload, until):
    before = set(server.files())
    page.set_input_files("#classify-upload input[type=file]", upload)
    page.wait_for_selector("#classify-slider img")
    page.click("role=tab[name=Batch]")
    page.set_input_files("#batch-upload input[type=file]", [upload])
    page.wait_for_selector(".bcx-progress[data-finished=true]")
    page.click("#batch-rows [data-row='0']")
    page.wait_for_selector("#batch-slider img")
    page.wait_for_selector("a:has(#batch-csv), #batch-csv:not([disabled])")
    mine = set(server.files()) - before
    assert {path.suffix for path in mine} >= {".png", ".csv"}
    page.close()
    assert until(lambda: not any(path.exists() for path in mine)), [path for path in mine if path.exists()]
