"""The choice of model on the real page, in a real browser without a window: two tiny models of different tasks."""

import shutil
import time

import httpx
import pytest
from gradio_client import Client, handle_file

from bcx.app.model_tab import model_html
from bcx.app.privacy import Session
from bcx.inference.classifier import Classifier
from tests.app.conftest import WAIT, start, with_patches


@pytest.fixture(scope="module")
def server(tiny, tiny_checkpoint, cells_checkpoint, examples, tmp_path_factory):
    """The page with an ultrasound model as default, another, one for tissue, and one that is damaged."""
    at_hand = tmp_path_factory.mktemp("at-hand")
    (at_hand / "cells").symlink_to(cells_checkpoint)
    shutil.copytree(tiny_checkpoint, at_hand / "other")
    (at_hand / "broken").mkdir()
    (at_hand / "broken" / "config.json").write_text("{}")
    patch = pytest.MonkeyPatch()
    patch.setenv("BCX_CHECKPOINTS", str(at_hand))
    both = with_patches(examples, tmp_path_factory.mktemp("of-both") / "examples")
    yield from start(tiny, tmp_path_factory.mktemp("both"), both)
    patch.undo()


@pytest.fixture
def page(page):
    page.set_default_timeout(3 * WAIT)  # a model is loaded on the way
    return page


def choose(page, words: str) -> None:
    page.click("#model-picker input")
    page.click(f"#model-picker [role=option]:has-text('{words}'), [role=listbox] [role=option]:has-text('{words}')")


def read(page, upload) -> None:
    page.set_input_files("#classify-upload input[type=file]", upload)
    page.wait_for_selector("#classify-answer [data-label]")


@pytest.fixture
def slowed(monkeypatch):
    """Make answers take seconds, by model and name; return what was begun, (model, name) each."""

    def slow_down(seconds) -> list[tuple[str, str]]:
        predict, begun = Classifier.predict, []

        def slow(classifier, scan, name="", **more):
            if name:  # else a model that is loaded tries itself
                begun.append((classifier.name, name))
                time.sleep(seconds(classifier.name, name))
            return predict(classifier, scan, name, **more)

        monkeypatch.setattr(Classifier, "predict", slow)
        return begun

    return slow_down


@pytest.fixture
def laid_out_slowly(monkeypatch):
    """Make the page of the model of that name take seconds to be laid out."""

    def slow_down(name):
        described = model_html

        def slow(classifier):
            time.sleep(3 if classifier.name == name else 0)
            return described(classifier)

        monkeypatch.setattr("bcx.app.page.model_html", slow)

    return slow_down


def test_another_model_changes_task_wording_colours_and_examples(page, server, upload, tmp_path):
    assert "Breast ultrasound: tiny" in page.input_value("#model-picker input")
    page.click("#classify-examples [data-pick='1']")
    page.wait_for_selector("#classify-answer [data-label]")
    choose(page, "cells")
    page.wait_for_selector("h1:has-text('Breast tissue under the microscope')")
    page.wait_for_function("() => document.title.includes('invasive ductal carcinoma')")
    assert page.locator("#classify-answer [data-label]").count() == 0  # the other model's answer is gone
    assert not page.locator("#classify-viewer").is_visible()
    assert "negative or positive" in page.inner_text("#classify-answer")
    assert "histology patch" in page.inner_text("#classify-upload")
    assert page.locator("#classify-examples [data-pick]").count() == 2
    assert "Model cells" in page.inner_text(".bcx-footer")
    assert page.locator("role=tab[name='Large image']").is_visible()

    calls = server.classifier.calls
    page.click("#classify-examples [data-pick='1']")
    page.wait_for_selector("#classify-answer [data-label]")
    shown = [bar.get_attribute("data-class") for bar in page.locator("#classify-answer .bcx-bars li").all()]
    assert shown == ["negative", "positive"]
    assert "#56B4E9" in page.inner_html("#classify-answer") or "rgb(86, 180, 233)" in page.inner_html(
        "#classify-answer"
    )
    layers = [each.get_attribute("value") for each in page.locator("#classify-class input").all()]
    assert layers == ["negative", "positive"]
    assert server.classifier.calls == calls  # the default model was not asked

    page.click("role=tab[name=Batch]")
    assert "histology patch" in page.inner_text("#batch-upload")
    page.set_input_files("#batch-upload input[type=file]", [upload])
    page.wait_for_selector(".bcx-progress[data-finished=true]")
    page.wait_for_selector("a:has(#batch-csv), #batch-csv:not([disabled])")
    with page.expect_download() as started:
        page.click("#batch-csv")
    started.value.save_as(tmp_path / "r.csv")
    assert "p_negative,p_positive" in (tmp_path / "r.csv").read_text().splitlines()[0]
    page.click("role=tab[name='Large image']")
    page.wait_for_selector("#slide-upload")

    choose(page, "tiny")
    page.wait_for_selector("h1:has-text('Breast ultrasound')")
    page.wait_for_selector("#slide-upload", state="detached")
    page.click("role=tab[name=Batch]")
    assert page.locator("#batch-rows [data-row]").count() == 0
    assert not page.locator("role=tab[name='Large image']").is_visible()


def test_the_same_model_changes_nothing_and_another_reads_the_same_again(page, server, upload, scans):
    read(page, upload)
    page.click("role=tab[name=Batch]")
    page.set_input_files("#batch-upload input[type=file]", [upload, scans["grey.png"]])
    page.wait_for_selector("#batch-csv:not([disabled])")
    page.select_option("#batch-rows [data-own='0']", "malignant")
    page.wait_for_selector("#batch-score .bcx-score")
    calls = server.classifier.calls
    choose(page, "tiny")  # the one that it is
    page.focus("#model-picker input")
    page.keyboard.press("Escape")
    page.keyboard.press("Tab")
    page.click("h1")
    page.click("role=tab[name=Classify]")
    page.wait_for_timeout(1500)
    assert page.locator("#classify-answer [data-label]").count() == 1
    assert server.classifier.calls == calls
    page.click("role=tab[name=Batch]")
    assert page.locator("#batch-rows [data-row]").count() == 2
    choose(page, "other")
    page.wait_for_selector(".bcx-footer:has-text('Model other')")
    assert "other reads the scan and the batch again" in page.inner_text("#model-refusal")
    page.wait_for_selector(".bcx-progress[data-finished=true][data-done='2']")
    assert page.input_value("#batch-rows [data-own='0']") == "malignant"
    page.click("role=tab[name=Classify]")
    page.wait_for_selector("#classify-answer [data-label]")
    assert upload.name in page.inner_text("#classify-answer")
    choose(page, "cells")
    page.wait_for_selector("h1:has-text('microscope')")
    assert "Kept for the previous model: the scan and the batch" in page.inner_text("#model-refusal")
    choose(page, "tiny")
    page.wait_for_selector("#classify-answer [data-label]")
    page.click("role=tab[name=Batch]")
    page.wait_for_selector(".bcx-progress[data-finished=true][data-done='2']")


def test_a_model_that_is_chosen_while_another_still_reads_again_reads_too(page, upload, slowed):
    read(page, upload)
    begun = slowed(lambda model, _: 4 if model == "other" else 0)
    choose(page, "other")
    page.wait_for_selector(".bcx-footer:has-text('Model other')")
    choose(page, "tiny")
    page.wait_for_selector(".bcx-footer:has-text('Model tiny')")
    page.wait_for_selector("#classify-answer [data-label]")
    assert "tiny" in page.inner_text("#classify-past [aria-current]")
    assert begun[-1][0] == "tiny"


def test_a_model_that_is_slow_to_be_shown_does_not_clear_its_own_answer(page, server, upload, laid_out_slowly):
    read(page, upload)
    # The first choice's reading is sent late, so that it names the second choice, which is still being laid out.
    page.evaluate("() => { bcx.title = () => new Promise((done) => setTimeout(done, 1000)); }")
    laid_out_slowly("tiny")
    choose(page, "other")
    page.wait_for_selector(".bcx-footer:has-text('Model other')")
    choose(page, "tiny")
    page.wait_for_selector(".bcx-footer:has-text('Model tiny')")
    page.wait_for_selector("#classify-answer [data-label]")
    assert "tiny" in page.inner_text("#classify-past [aria-current]")


@pytest.fixture
def shown_late(page, monkeypatch):
    """Make the page learn late of a choice of "tiny", and be late itself in asking for what "other" should read."""
    page.evaluate("() => { bcx.title = () => new Promise((done) => setTimeout(done, 2000)); }")
    start_over = Session.start_over

    def late(session, model):
        start_over(session, model)
        time.sleep(5 if model == "tiny" else 0)

    monkeypatch.setattr(Session, "start_over", late)


def test_answers_that_come_before_the_page_is_cleared_are_shown_after(page, upload, scans, request):
    read(page, upload)
    page.click("role=tab[name=Batch]")
    page.set_input_files("#batch-upload input[type=file]", [upload, scans["grey.png"]])
    page.wait_for_selector("#batch-csv:not([disabled])")
    request.getfixturevalue("shown_late")
    choose(page, "other")
    page.wait_for_selector(".bcx-footer:has-text('Model other')")
    choose(page, "tiny")
    page.wait_for_selector(".bcx-footer:has-text('Model tiny')")
    page.wait_for_selector(".bcx-progress[data-finished=true][data-done='2']")
    page.wait_for_selector("#batch-csv:not([disabled])")
    page.click("role=tab[name=Classify]")
    page.wait_for_selector("#classify-answer [data-label]")
    assert "tiny" in page.inner_text("#classify-past [aria-current]")


def test_a_failure_that_comes_before_the_page_is_cleared_is_shown_after(page, tmp_path, request):
    (tmp_path / "broken.png").write_bytes(b"no picture")
    page.set_input_files("#classify-upload input[type=file]", tmp_path / "broken.png")
    page.wait_for_selector("#classify-answer:has-text('broken.png')")
    request.getfixturevalue("shown_late")
    choose(page, "other")
    page.wait_for_selector(".bcx-footer:has-text('Model other')")
    choose(page, "tiny")
    page.wait_for_selector(".bcx-footer:has-text('Model tiny')")
    page.wait_for_selector("#classify-answer:has-text('broken.png')")


def test_a_model_that_is_chosen_by_keys_while_another_is_loaded_is_not_lost(page, laid_out_slowly):
    laid_out_slowly("other")
    choose(page, "other")
    page.wait_for_timeout(500)
    page.focus("#model-picker input")
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Enter")
    page.wait_for_selector(".bcx-footer:has-text('Model other')")
    page.wait_for_selector(".bcx-footer:has-text('Model cells')")
    assert "cells" in page.input_value("#model-picker input")


def test_a_scan_that_is_read_while_another_model_is_chosen_is_read_by_that_one(page, upload, scans, slowed, until):
    read(page, upload)
    begun = slowed(lambda model, _: 3 if model == "tiny" else 0)
    page.set_input_files("#classify-upload input[type=file]", scans["grey.png"])
    assert until(lambda: begun)
    choose(page, "other")
    page.wait_for_selector("#classify-answer:has-text('grey.png')")
    assert "other" in page.inner_text("#classify-past [aria-current]")


def test_an_answer_that_comes_late_takes_no_other_ones_place(page, slowed):
    begun = slowed(lambda model, name: 3 if "benign" in name or model == "other" else 0)
    page.click("#classify-examples [data-pick='1']")  # slow
    page.wait_for_timeout(500)
    page.click("#classify-examples [data-pick='2']")
    page.wait_for_selector("#classify-answer [data-label]")
    shown = page.inner_text("#classify-answer")
    page.click("#classify-other input")
    page.click("#classify-other [role=option], [role=listbox] [role=option]")  # slow, to be put beside it
    page.wait_for_timeout(4500)
    assert page.inner_text("#classify-answer") == shown
    page.wait_for_selector("#classify-compare section")
    assert page.locator("#classify-past [data-pick]").count() == 2, "the one that came late is not kept"
    page.click("#classify-other input")
    page.click("#classify-other [role=option], [role=listbox] [role=option]")
    page.wait_for_timeout(500)
    page.click("#classify-examples [data-pick='0']")
    page.wait_for_selector("#classify-answer:not(:has-text('malignant-1'))")
    page.wait_for_timeout(4500)
    assert page.locator("#classify-compare section").count() == 0, "it would stand beside another scan"
    assert [name for _, name in begun] == [
        f"simulated-{label}-1.png" for label in ("benign", "malignant", "malignant", "malignant", "normal")
    ]


def test_a_damaged_model_says_so_and_the_old_one_stays(page, server):
    choose(page, "broken")
    page.wait_for_selector("#model-refusal [role=alert]")
    assert "broken could not be loaded" in page.inner_text("#model-refusal")
    page.wait_for_function("() => document.querySelector('#model-picker input').value.includes('tiny')")
    page.click("#classify-examples [data-pick='0']")
    page.wait_for_selector("#classify-answer [data-label]")
    assert "Model tiny" in page.inner_text(".bcx-footer")
    choose(page, "cells")
    page.wait_for_selector("#model-refusal [role=alert]", state="detached")


def test_the_choice_fits_the_page(page):
    page.set_viewport_size({"width": 390, "height": 900})
    choose(page, "cells")
    page.wait_for_selector("h1:has-text('microscope')")
    page.click("#classify-examples [data-pick='0']")
    page.wait_for_selector("#classify-slider img")
    for width in (390, 1440):
        page.set_viewport_size({"width": width, "height": 900})
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_the_endpoints_stay_with_the_default_model(server, page, scans, tiny):
    choose(page, "cells")
    page.wait_for_selector("h1:has-text('microscope')")
    caller = Client(server.url, verbose=False, analytics_enabled=False)
    answer = caller.predict(handle_file(str(scans["grey.png"])), api_name="/classify")
    named = caller.view_api(return_format="dict", print_info=False)["named_endpoints"]
    caller.close()
    assert answer["probabilities"] == pytest.approx(tiny.predict(scans["grey.png"]).probabilities, abs=1e-6)
    assert set(named) == {"/classify", "/explain", "/batch"}
    tools = httpx.get(f"{server.url}gradio_api/mcp/schema", timeout=60).json()
    assert "breast ultrasound scan as normal or benign or malignant" in tools[0]["description"]
