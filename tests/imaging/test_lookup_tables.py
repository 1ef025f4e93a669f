"""Look-up tables of DICOM headers, compared with pydicom's own reading of them."""

import numpy as np
import pytest
from pydicom.pixels.processing import _expand_segmented_lut

from bcx.imaging.dicom_header import read_table

RNG = np.random.default_rng(5)


def test_entries_from_numbers_and_from_bytes_of_both_orders():
    entries = RNG.integers(0, 4096, 300).astype(np.uint16)
    tables = [
        read_table([300, -7, 12], entries.tolist(), "table"),
        read_table([300, -7, 12], entries.tobytes(), "table"),
        read_table([300, -7, 12], entries.astype(">u2").tobytes(), "table", little=False),
    ]
    values = np.array([[-100, -7, -6], [0, 292, 5000]])
    right = [[entries[0], entries[0], entries[1]], [entries[7], entries[299], entries[299]]]
    for table in tables:
        assert table(values).tolist() == right
    assert read_table([4, 0, 8], bytes([1, 2, 3, 4]), "table")(np.arange(4)).tolist() == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("descriptor", "data", "words"),
    [
        (None, b"", "not described by three numbers"),
        ([4, 0], b"", "not described by three numbers"),
        ([4, 0, 99], b"", "claims 4 entries of 99 bits"),
        ([4, 0, 16], None, "is empty"),
        ([4, 0, 16], b"", "is empty"),
        ([4, 0, 16], [1, 2], "has 2 of the 4 entries"),
        ([1, 0, 16], 5, "has one entry"),
        ([2, 0, 16], ["a", "b"], "something else than numbers"),
        ([2, 0, 16], [-1, 70_000], "something else than numbers"),
    ],
)
def test_a_table_that_does_not_fit_is_named(descriptor, data, words):
    with pytest.raises(ValueError, match=f"its VOI look-up table .*{words}"):
        read_table(descriptor, data, "VOI look-up table")


def words(*segments: list[int], narrow: bool) -> bytes:
    flat = [value for segment in segments for value in segment]
    return bytes(flat) if narrow else np.asarray(flat, "<u2").tobytes()


@pytest.mark.parametrize("narrow", [True, False])
def test_segments_become_what_pydicom_makes_of_them(narrow):
    again = [2, 2, 0, 0, 0, 0] if narrow else [2, 2, 0, 0]
    data = words([0, 3, 10, 20, 30], [1, 100, 200], [0, 1, 5], again, [1, 7, 0], narrow=narrow)
    flat = tuple(np.frombuffer(data, np.uint8 if narrow else "<u2").tolist())
    right = _expand_segmented_lut(flat, "<B" if narrow else "<H")
    table = read_table([len(right), 0, 8 if narrow else 16], data, "red palette", segmented=True)
    np.testing.assert_allclose(table.entries, right, atol=1)  # halves may be rounded either way
    assert (table.entries == right).mean() > 0.95


def test_segments_that_ask_for_too_much_or_for_each_other_are_refused():
    huge = words([0, 1, 1], *([[1, 65_535, 9]] * 3), narrow=False)
    with pytest.raises(ValueError, match="more than 65,536 entries"):
        read_table([0, 0, 16], huge, "red palette", segmented=True)
    nested = words([0, 1, 1], [2, 3, 0, 0], [2, 3, 0, 0], narrow=False)
    with pytest.raises(ValueError, match="within another"):
        read_table([0, 0, 16], nested, "red palette", segmented=True)
    for data in (words([1, 5, 5], narrow=False), words([7, 7, 7], narrow=False), None, b"\x00"):
        with pytest.raises(ValueError, match="red palette"):
            read_table([256, 0, 16], data, "red palette", segmented=True)
