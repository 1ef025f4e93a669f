"""The frames of a clip on the page: the chart, and each frame's own answer without another run of the network."""

import re

import numpy as np
import pytest

import bcx
from bcx.app import markup
from bcx.app.viewer import frame_answer
from bcx.inference.clip import Clip
from bcx.tasks import get_task
from tests.app.conftest import changed, overlay_address
from tests.inference.test_frames import BLACK, SCANS, gif

TASK = get_task("breast-ultrasound")


def test_the_chart_says_what_it_shows():
    probabilities = np.array([[0.9, 0.06, 0.04], [0.2, 0.3, 0.5], [0, 0, 1]], np.float32)
    html = markup.html.clip(Clip(40, (2, 11, 30), (0,), (), 11, probabilities), TASK, 1)
    assert "Frame 12 of 40: normal 20 %, benign 30 %, malignant 50 %." in html
    assert "Clip: 3 of 40 frames read, 1 blank one left out." in html
    lines = re.findall(r'<polyline points="([^"]+)"', html)
    assert len(lines) == 3
    heights = [float(point.split(",")[1]) for point in lines[2].split()]
    assert heights == sorted(heights, reverse=True)  # upwards on the screen
    assert ">frame 3<" in html


@pytest.fixture(scope="module")
def clip_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("clip") / "clip.gif"
    path.write_bytes(gif([BLACK, *SCANS[:5]]))
    return path


def test_a_frames_answer_is_that_of_the_frame_alone(tiny_lesion_checkpoint, clip_file):
    classifier = bcx.load(tiny_lesion_checkpoint)
    found = classifier.predict(clip_file)
    for place, frame in enumerate(found.clip.read):
        answer, alone = frame_answer(found, place, clip_file), classifier.predict(SCANS[frame - 1])
        np.testing.assert_array_equal(answer.scan.pixels, alone.scan.pixels)
        assert answer.clip.frame == frame
        assert answer.label == alone.label
        np.testing.assert_allclose(answer.maps, alone.maps, atol=1e-4 * np.abs(alone.maps).max())


@pytest.fixture(scope="module")
def server(lesion_server):
    return lesion_server


def test_the_slider_moves_through_the_frames(page, server, clip_file, upload):
    page.set_input_files("#classify-upload input[type=file]", str(clip_file))
    chart = page.locator("#classify-clip figcaption")
    chart.wait_for()
    slider = page.locator("#classify-frame input[type=range]")
    assert slider.get_attribute("max") == "5"
    decisive = int(slider.input_value())
    assert f"Frame {decisive + 1} of 6:" in chart.inner_text()
    assert f"frame {decisive + 1} of 6" in page.locator("#classify-answer .bcx-kicker").inner_text().lower()
    asked, before = server.classifier.calls, overlay_address(page, "classify")
    slider.focus()
    page.keyboard.press("Home" if decisive > 1 else "End")
    changed(page, "classify", before)
    wanted = "Frame 2 of 6:" if decisive > 1 else "Frame 6 of 6:"
    page.wait_for_function(f"document.querySelector('#classify-clip figcaption').innerText.includes('{wanted}')")
    assert server.classifier.calls == asked
    assert len([path for path in server.files() if path.suffix == ".gif"]) == 1
    page.set_input_files("#classify-upload input[type=file]", str(upload))
    page.locator("#classify-answer .bcx-kicker", has_text=upload.name).wait_for()
    chart.wait_for(state="hidden")
