"""The batch as a worklist on the real page, in a real browser without a window."""

import pandas
import pytest
from PIL import Image

from bcx.simulate import simulate

#: Rows of the large batch.
MANY = 120
FIRST = "#batch-rows li:first-child .bcx-row-name"


@pytest.fixture
def page(page):
    page.click("role=tab[name=Batch]")
    page.wait_for_selector("#batch-folder")
    return page


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A folder with folders called like classes, and more scans than a page of rows holds."""
    root = tmp_path_factory.mktemp("study")
    for label in ("benign", "malignant"):
        (root / label / "deeper").mkdir(parents=True)
        for place in range(30):
            scan = Image.fromarray(simulate(label, place, 80, 100).pixels)
            scan.save(root / label / ("deeper" if place == 2 else "") / f"mono{place}.png")
    return root


def choose_folder(page, folder, rows):
    with page.expect_file_chooser() as chosen:
        page.click("#batch-folder")
    chosen.value.set_files(str(folder))
    page.wait_for_selector(f".bcx-progress[data-finished=true][data-done='{rows}']", timeout=300_000)
    page.wait_for_selector("a:has(#batch-csv), #batch-csv:not([disabled])")


def names(page) -> list[str]:
    return page.locator("#batch-rows .bcx-row-name").all_inner_texts()


def at(page, words: str) -> None:
    page.wait_for_function("(words) => document.getElementById('batch-place').innerText === words", arg=words)


def test_a_folder_keeps_its_paths_and_gives_labels(page, study, tmp_path):
    choose_folder(page, study, 60)
    assert names(page)[:4] == [f"benign/{n}.png" for n in ("deeper/mono2", "mono0", "mono1", "mono3")]
    assert "60 labelled" in page.inner_text("#batch-score")
    assert "ROC-AUC of malignant" in page.inner_text("#batch-score")
    page.select_option("#batch-rows [data-own='0']", "malignant")
    page.wait_for_function("() => document.querySelector('#batch-score tbody').innerText.includes('29')")
    page.check("#batch-order input[value=suspicion]")
    page.wait_for_selector(".bcx-row-sorted")
    page.check("#batch-order input[value=name]")
    page.wait_for_selector(".bcx-row-sorted", state="detached")
    assert page.input_value("#batch-rows [data-own='0']") == "malignant"
    assert page.input_value("#batch-rows [data-own='1']") == "benign"
    with page.expect_download() as started:
        page.click("#batch-csv")
    started.value.save_as(tmp_path / "r.csv")
    read = pandas.read_csv(tmp_path / "r.csv")
    assert read.columns[-1] == "own_label"
    assert read["file"].tolist()[:2] == ["benign/deeper/mono2.png", "benign/mono0.png"]
    assert read["own_label"].value_counts().to_dict() == {"malignant": 31, "benign": 29}


def test_rows_are_gone_through_by_keyboard_and_buttons(page, study):
    choose_folder(page, study, 60)
    page.click("#batch-rows [data-pick='0']")
    at(page, "1 of 60")
    page.keyboard.press("j")
    at(page, "2 of 60")
    page.keyboard.press("ArrowDown")
    at(page, "3 of 60")
    page.keyboard.press("k")
    at(page, "2 of 60")
    assert page.evaluate("document.activeElement.dataset.pick") == "1"
    page.click("#batch-on")
    at(page, "3 of 60")
    page.click("#batch-rows [data-pick='49']")
    at(page, "50 of 60")
    top = page.evaluate("document.getElementById('batch-result').getBoundingClientRect().top")
    assert 0 <= top < 100, "the answer stays beside the rows"
    page.keyboard.press("j")  # over the end of the page
    at(page, "51 of 60")
    assert page.evaluate("document.activeElement.dataset.pick") == "50"
    page.click("#batch-back")
    at(page, "50 of 60")
    assert page.locator("button:has-text('Next page')").is_enabled()


def test_a_large_batch_is_sorted_and_filtered_at_once(page, study, tmp_path):
    one = next(study.rglob("mono1.png")).read_bytes()
    for place in range(MANY):
        (tmp_path / f"case{place}.png").write_bytes(one)
    choose_folder(page, tmp_path, MANY)
    assert "Page 1 of 3" in page.inner_text(".bcx-pager")
    for order in ("suspicion", "name"):
        page.check(f"#batch-order input[value={order}]")
        page.wait_for_selector(".bcx-row-sorted", state="attached" if order == "suspicion" else "detached")
    page.fill("#batch-search textarea, #batch-search input", "case11")
    page.wait_for_function("() => document.querySelectorAll('#batch-rows li').length === 11")
    assert names(page)[:2] == ["case11.png", "case110.png"]


#: Whether the browser would ask before the page is left.
ASKS = """() => {
  const leaving = new Event('beforeunload', {cancelable: true});
  window.dispatchEvent(leaving);
  return leaving.defaultPrevented;
}"""


def test_leaving_is_asked_about_only_while_a_batch_runs(page, study):
    with page.expect_file_chooser() as chosen:
        page.click("#batch-folder")
    chosen.value.set_files(str(study))
    page.wait_for_function(f"() => document.querySelector('.bcx-progress[data-finished=false]') && ({ASKS})()")
    # the person stays, and the batch goes on
    page.wait_for_selector(".bcx-progress[data-finished=true][data-done='60']", timeout=300_000)
    assert not page.evaluate(ASKS)


def test_nothing_scrolls_sideways(page, study):
    page.set_viewport_size({"width": 390, "height": 900})
    choose_folder(page, study, 60)
    page.check("#batch-order input[value=uncertainty]")
    page.click("#batch-rows [data-pick] >> nth=0")
    page.wait_for_selector("#batch-slider img")
    for width in (390, 1440):
        page.set_viewport_size({"width": width, "height": 900})
        assert page.evaluate("document.documentElement.scrollWidth") <= width
