"""The Large image tab, without a browser: a run that grows, stops and leaves nothing, and its words."""

import re

import numpy as np
import pytest

from bcx.app import slide_tab
from bcx.app.markup import html
from bcx.app.privacy import Sessions
from bcx.app.slide_tab import SlideRun, run
from bcx.simulate.slide import SlideScene
from bcx.slides import stream_slide


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    return SlideScene(3, 1500, 1400, tissue=0.9).part(0, 0, 1500, 1400)


@pytest.fixture
def sessions(tmp_path):
    return Sessions(tmp_path / "sessions")


@pytest.fixture(autouse=True)
def _tell_everything(monkeypatch):
    monkeypatch.setattr("bcx.app.slide_tab.TELL_SECONDS", 0)


def started(session, name="<b>slide</b>.tif") -> SlideRun:
    session.slide = SlideRun(name, "positive")
    return session.slide


def test_a_run_grows_to_its_end(sessions, patches, pixels):
    session = sessions.get("page")
    slide = started(session)
    counts = [slide.progress.done for _ in run(session, slide, stream_slide(patches, pixels, stride=100))]
    assert counts == sorted(counts)
    assert len(set(counts)) > 2
    assert slide.ended
    assert slide.reading.read.sum() == slide.reading.tissue.sum() == counts[-1]


@pytest.mark.parametrize("how", ["stop", "closed", "another slide", "another model"])
def test_a_run_ends_when_nobody_waits_for_it(sessions, patches, pixels, how):
    session = sessions.get("page")
    slide = started(session)
    ends = {
        "stop": slide.stop.set,
        "closed": lambda: sessions.close("page"),
        "another slide": lambda: started(session),
        "another model": lambda: session.start_over("other"),
    }
    closed = []

    def steps():
        try:
            yield from stream_slide(patches, pixels, stride=20)
        finally:
            closed.append(True)

    for number, _ in enumerate(run(session, slide, steps())):
        if number == 2:
            ends[how]()
    assert closed
    assert slide.ended
    assert slide.progress.done < slide.progress.total


def test_words_and_pictures_say_what_the_reading_holds(sessions, patches, pixels):
    session = sessions.get("page")
    slide = started(session)
    assert "Looking for tissue" in html.slide_progress(slide)
    list(run(session, slide, stream_slide(patches, pixels, stride=100)))
    said = slide.reading.summary
    summary = html.slide_summary(slide.name, slide.reading)
    assert "<b>slide" not in summary
    assert f'data-positive-share="{said["positive_share"]}"' in summary
    assert f"{round(100 * said['positive_share'])} % of the tissue" in summary
    assert "never for diagnosis" in summary
    slide.layer = "negative"
    shown = slide_tab.map_html(slide)
    assert 'data-class="negative"' in shown
    assert shown.count("bcx-pin") == len(said["hottest"])
    assert len(re.findall("data:image/(?:png|jpeg);base64,", shown)) == 3  # slide, map, legend
    assert 'data-finished="true"' in html.slide_progress(slide)


def test_glass_alone_is_said_to_be_glass(sessions, patches):
    session = sessions.get("page")
    slide = started(session)
    list(run(session, slide, stream_slide(patches, np.full((400, 400, 3), (243, 240, 244), np.uint8))))
    assert "No tissue found" in html.slide_summary(slide.name, slide.reading)
