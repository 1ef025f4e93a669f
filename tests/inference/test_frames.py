"""Clips through the engine: every door of a file with several frames gives one answer, by the stated rule."""

import io

import numpy as np
import pytest
from PIL import Image

import bcx
from bcx.errors import BcxError, ConfigError, DamagedScan
from bcx.inference.clip import FRAMES_PER_RANK
from bcx.inference.prediction import Failure
from bcx.simulate import simulate
from bcx.trust.claims import NOT_A_SCAN, REFER

SCANS = [simulate(("normal", "benign", "malignant")[seed % 3], seed, 120, 150).pixels for seed in range(24)]
BLACK = np.zeros_like(SCANS[0])


def gif(frames) -> bytes:
    """As a GIF, which keeps 8-bit grey as it is; a TIFF is read in another process, and a DICOM needs pydicom."""
    buffer = io.BytesIO()
    first, *rest = (Image.fromarray(frame) for frame in frames)
    first.save(buffer, "GIF", save_all=True, append_images=rest)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def classifier(tiny_lesion_checkpoint):
    return bcx.load(tiny_lesion_checkpoint)


@pytest.fixture(scope="module")
def alone(classifier):
    return [classifier.predict(pixels) for pixels in SCANS]


def suspicion(answer) -> float:
    return answer.probabilities["malignant"]


def test_the_answer_is_the_most_suspicious_frames_of_up_to_ten(classifier, alone):
    found = classifier.predict(gif(SCANS[:8]), "clip.gif")
    place = int(np.argmax([suspicion(each) for each in alone[:8]]))
    assert found.clip.frame == place
    assert found.label == alone[place].label
    assert found.probabilities == pytest.approx(alone[place].probabilities, abs=1e-4)
    np.testing.assert_array_equal(found.scan.pixels, SCANS[place])
    np.testing.assert_allclose(
        found.clip.probabilities, [list(each.probabilities.values()) for each in alone[:8]], atol=1e-4
    )
    assert found.notes[0] == "clip: 8 of 8 frames read"
    assert found.maps.shape == alone[place].maps.shape
    told = found.to_dict()
    assert told["frame"] == place + 1
    assert told["frames"]["read"] == list(range(1, 9))


def test_of_more_the_second_highest_and_disagreement_is_referred(classifier, alone):
    found = classifier.predict(gif(SCANS[:14]))
    ranked = sorted(alone[:14], key=suspicion, reverse=True)
    second = ranked[(14 - 1) // FRAMES_PER_RANK]
    assert suspicion(found) == pytest.approx(suspicion(second), abs=1e-4)
    if ranked[0].label != second.label:
        assert found.decision == REFER
        assert found.reason.startswith("The frames disagree: ")


@pytest.mark.slow
def test_blank_frames_are_left_out_and_the_limit_is_kept(tiny_lesion_checkpoint):
    few = bcx.load(tiny_lesion_checkpoint, frames=3)
    found = few.predict(gif([BLACK, *SCANS[:9], BLACK]))
    assert len(found.clip.read) == 3
    assert set(found.clip.blank) == {0, 10}
    assert found.notes[0] == "clip: 3 of 11 frames read, 2 blank ones left out"
    with pytest.raises(ConfigError, match="frames is 0"):
        bcx.load(tiny_lesion_checkpoint, frames=0)


def test_a_clip_of_blank_frames_is_answered_as_one_is(classifier):
    found = classifier.predict(gif([BLACK, BLACK + 1, BLACK + 2]))
    assert found.clip.read == (0,)
    assert found.clip.blank == (1, 2)


def test_a_frame_that_cannot_be_read_is_counted_and_the_others_answer(classifier):
    pydicom = pytest.importorskip("pydicom")
    from tests.imaging.test_dicom import dataset, encapsulate, encoded, written

    streams = [encoded(pixels, "JPEG", quality=95) for pixels in SCANS[:4]]
    streams[1] = streams[1][:300]
    ds = dataset(SCANS[0], syntax=pydicom.uid.JPEGBaseline8Bit, NumberOfFrames=4, PixelData=encapsulate(streams))
    found = classifier.predict(written(ds))
    assert found.clip.failed == (1,)
    assert found.notes[0] == "clip: 3 of 4 frames read, 1 could not be read"
    ds.PixelData = encapsulate([stream[:300] for stream in streams])
    with pytest.raises(DamagedScan):
        classifier.predict(written(ds))


def test_clips_and_single_scans_share_a_stream(classifier, alone, tmp_path):
    (tmp_path / "clip.gif").write_bytes(gif(SCANS[:5]))
    (tmp_path / "broken.gif").write_bytes(gif(SCANS[:5])[:40])
    sources = [SCANS[3], tmp_path / "clip.gif", tmp_path / "broken.gif", SCANS[7]]
    first, clip, broken, last = classifier.stream(sources, batch_size=2)
    assert isinstance(broken, Failure)
    assert isinstance(broken.error, BcxError)
    assert (first.clip, last.clip) == (None, None)
    assert first.probabilities == pytest.approx(alone[3].probabilities, abs=1e-4)
    assert last.probabilities == pytest.approx(alone[7].probabilities, abs=1e-4)
    assert clip.name == "clip.gif"
    assert clip.clip.count == 5


def test_pages_of_several_sizes_are_a_picture_and_its_copies(classifier, alone):
    buffer = io.BytesIO()
    small = Image.fromarray(SCANS[0]).resize((75, 60))
    Image.fromarray(SCANS[0]).save(buffer, "TIFF", save_all=True, append_images=[small])
    found = classifier.predict(buffer.getvalue())
    assert found.clip is None
    assert found.probabilities == pytest.approx(alone[0].probabilities, abs=1e-4)
    assert found.notes == ("first page of 2",)


def test_pixels_that_were_let_go_come_back(classifier):
    data = gif(SCANS[:6])
    found = classifier.predict(data)
    again = found.without_pixels().with_pixels(data)
    np.testing.assert_array_equal(again.scan.pixels, found.scan.pixels)
    np.testing.assert_array_equal(again.maps, found.maps)


def test_long_frames_are_judged_by_their_shape(classifier):
    long = [np.random.default_rng(i).integers(0, 255, (20, 400), np.uint8) for i in range(3)]
    found = classifier.predict(gif(long))
    assert found.decision == NOT_A_SCAN
    assert "400 x 20" in found.reason
