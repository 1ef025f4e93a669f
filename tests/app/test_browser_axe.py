"""In a real browser: axe-core finds nothing serious on any tab with answers on it, wide and narrow, light and dark."""

import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image

from bcx.explain import checks
from bcx.explain.methods import quick_methods
from bcx.simulate import simulate
from tests.app.conftest import opened

LONG = 120_000  # milliseconds for all maps on a busy machine


@pytest.fixture
def folder(tmp_path):
    for number, kind in enumerate(("benign", "malignant")):
        (tmp_path / "ann").mkdir(exist_ok=True)
        Image.fromarray(simulate(kind, number, 120, 150).pixels).save(tmp_path / "ann" / f"{number}.png")
    (tmp_path / "ann" / "letter.png").write_text("no picture")
    return tmp_path / "ann"


def serious(page) -> list[tuple[str, str]]:
    """Rule and element of each finding that axe-core calls serious or critical."""
    page.wait_for_timeout(500)  # colours fade in
    found = Axe().run(page).response["violations"]
    return [
        (one["id"], node["html"][:200])
        for one in found
        if one["impact"] in ("serious", "critical")
        for node in one["nodes"]
    ]


@pytest.mark.parametrize(("width", "scheme"), [(1440, "light"), (390, "dark")])
def test_nothing_serious_on_any_tab(context, lesion_server, folder, width, scheme, monkeypatch):
    # What a check says is looked at here, and not whether it is right: without the networks that it asks for.
    monkeypatch.setattr(checks, "road", lambda *_: 0.1)
    monkeypatch.setattr(checks, "_stability", lambda *_: {"mirror": 0.9, "noise": 0.4, "zoom": 0.9})
    monkeypatch.setattr(checks, "_sanity", lambda *_: {"random_head": 0.1, "random_network": 0.1})
    pages = opened(context, f"{lesion_server.url}?__theme={scheme}")
    page = next(pages)
    page.set_viewport_size({"width": width, "height": 900})
    assert serious(page) == []
    for place in (0, 2):
        page.click(f"#classify-examples [data-pick='{place}']")
        page.wait_for_selector(f"#classify-past [data-pick='{place // 2}']")
    page.click("#classify-past [data-compare]")
    page.wait_for_selector("#classify-compare section")
    page.click("#classify-details-box > button")
    page.click("#classify-place-box > button")
    page.wait_for_selector("#classify-place [tabindex]")
    page.click("#classify-explain-box > button")
    page.wait_for_selector("#classify-explain section[data-state='Done']", timeout=LONG)
    assert page.locator("#classify-explain li").count() == len(quick_methods())
    assert serious(page) == []
    page.click("role=tab[name=Batch]")
    page.set_input_files("#batch-upload input[type=file]", sorted(folder.glob("*.png")))
    page.wait_for_selector(".bcx-progress[data-finished=true][data-done='3']")
    page.click("#batch-rows [data-pick]")
    page.wait_for_selector("#batch-slider img")
    page.check("#batch-by input[value=picked]")
    page.wait_for_selector("#batch-rows [data-mark]")
    assert serious(page) == []
    page.click("role=tab[name=Model]")
    assert serious(page) == []
    with pytest.raises(StopIteration):
        next(pages)


def test_a_contrast_fault_would_be_found(page):
    page.evaluate("""
        const said = Object.assign(document.createElement('p'), {textContent: 'pale'});
        Object.assign(said.style, {color: '#bbb', background: '#fff'});
        document.querySelector('#classify-answer').append(said);
    """)
    assert "color-contrast" in [rule for rule, _ in serious(page)]
