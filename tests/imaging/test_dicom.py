"""DICOM files that pydicom writes, read through Scan.open: compressed, windowed, coloured, damaged."""

import base64
import contextlib
import io
import sys
import zlib

import cv2
import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom import uid
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.pixels.processing import convert_color_space

from bcx.errors import BcxError, DamagedScan, MissingExtra, ScanTooLarge, ScanTooSmall, UnknownFormat
from bcx.imaging import dicom
from bcx.imaging.scan import Scan, frame_count

RNG = np.random.default_rng(11)
GREY = RNG.integers(0, 256, (40, 52), np.uint8)
DEEP = RNG.integers(100, 4000, (40, 52)).astype(np.uint16)
COLOUR = cv2.GaussianBlur(RNG.integers(0, 256, (40, 52, 3), np.uint8), (0, 0), 4)
COLOUR = cv2.normalize(COLOUR, None, 0, 255, cv2.NORM_MINMAX)


def dataset(pixels: np.ndarray, kind: str = "MONOCHROME2", syntax: str = uid.ExplicitVRLittleEndian, **tags) -> Dataset:
    """pixels: [H, W] or [H, W, 3]; of several frames, give NumberOfFrames and PixelData among the tags."""
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = syntax
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID = uid.UltrasoundImageStorage
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID = "1.2.3"
    ds.PatientName = "Nobody^Special"
    ds.Rows, ds.Columns = pixels.shape[:2]
    ds.SamplesPerPixel = 3 if pixels.ndim == 3 else 1
    if pixels.ndim == 3:
        ds.PlanarConfiguration = 0
    ds.BitsAllocated = ds.BitsStored = 8 * pixels.dtype.itemsize
    ds.HighBit = ds.BitsStored - 1
    ds.PixelRepresentation = int(pixels.dtype.kind == "i")
    ds.PhotometricInterpretation = kind
    ds.PixelData = pixels.tobytes()
    for tag, value in tags.items():
        setattr(ds, tag, value)
    ds["PixelData"].VR = "OB" if uid.UID(syntax).is_encapsulated or ds.BitsAllocated <= 8 else "OW"
    return ds


def written(ds: Dataset) -> bytes:
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, ds, enforce_file_format=True)
    return buffer.getvalue()


def encoded(pixels: np.ndarray, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    data = buffer.getvalue()
    return data[data.find(b"\xff\x4f\xff\x51") :] if kind == "JPEG2000" else data  # DICOM holds the bare codestream


def stretched(values: np.ndarray) -> np.ndarray:
    values = values.astype(np.float64)
    return (values - values.min()) * 255 / (values.max() - values.min())


# ---- transfer syntaxes


@pytest.mark.parametrize(
    "syntax",
    [
        uid.ImplicitVRLittleEndian,
        uid.ExplicitVRLittleEndian,
        uid.ExplicitVRBigEndian,
        uid.DeflatedExplicitVRLittleEndian,
    ],
)
def test_native_syntaxes(syntax):
    scan = Scan.open(written(dataset(GREY, syntax=syntax)), name="a.dcm")
    np.testing.assert_array_equal(scan.pixels, GREY)
    assert scan.notes == ()


@pytest.mark.parametrize("pixels", [GREY, COLOUR], ids=["grey", "colour"])
def test_rle(pixels):
    ds = dataset(pixels, "RGB" if pixels.ndim == 3 else "MONOCHROME2")
    ds.compress(uid.RLELossless)
    np.testing.assert_array_equal(Scan.open(written(ds)).pixels, pixels)


def test_jpeg_grey_and_colour():
    grey = COLOUR[..., 0].copy()
    data = encoded(grey, "JPEG", quality=95)
    scan = Scan.open(written(dataset(grey, syntax=uid.JPEGBaseline8Bit, PixelData=encapsulate([data]))))
    assert np.abs(scan.pixels.astype(int) - Scan.open(data).pixels).max() <= 2
    for sampling in (0, 1):
        data = encoded(COLOUR, "JPEG", quality=95, subsampling=sampling)
        ds = dataset(COLOUR, "YBR_FULL_422", uid.JPEGBaseline8Bit, PixelData=encapsulate([data]))
        assert np.abs(Scan.open(written(ds)).pixels.astype(int) - Scan.open(data).pixels).max() <= 12


def test_jpeg_2000_lossless():
    for pixels, kind in ((GREY, "MONOCHROME2"), (COLOUR, "YBR_RCT")):
        stream = encoded(pixels, "JPEG2000", irreversible=False, mct=int(pixels.ndim == 3))
        ds = dataset(pixels, kind, uid.JPEG2000Lossless, PixelData=encapsulate([stream]))
        np.testing.assert_array_equal(Scan.open(written(ds)).pixels, pixels)


def test_jpeg_2000_of_16_bits():
    stream = encoded(DEEP, "JPEG2000", irreversible=False)
    ds = dataset(DEEP, syntax=uid.JPEG2000Lossless, PixelData=encapsulate([stream]))
    assert np.abs(Scan.open(written(ds)).pixels - stretched(DEEP)).max() <= 0.5 + 1e-9


# A picture of 24 x 32, and what GDCM's encoders make of it (base 85).
SLOPES = np.fromfunction(lambda y, x: (x * x + 3 * y * y + x * y) // 11 % 256, (24, 32), dtype=int).astype(np.uint8)
JPEG_LS = (
    b"|JeWc01F5J7yuvv0TBTI+5iXv0RR910P@>w_WNt^{@u3O<<h@I(yuI=Mml_zcg<Du+Fw<7{z)pP{-"
    b"%<BRaH?GSN|nb>Zpi_l2Bh&VypQikc22l)l{ndl1T`PGu3e<pVd(jND-G;M3R2xZMNA+tNAMJzf~lXLM!>U-"
    b"~TG4l1N3Sk~Z7_eN>W2L7VHNZNL7il1VXxKaIBke^Qc3K+1FUA}#-"
    b"VmPsWHLq7<MfBz{&l5t4peF%$x{Hr9BotV$WL`8j7B$Kl?E8!6r|7lc7B{tZvh=`B<RT4?tZIR&-"
    b"5&Ei$B<Ud{yhKF*epL}9$q4{NM+k_Y`l^W}<4#C`|Je"
)
JPEG_LOSSLESS = (
    b"|JeV-"
    b"01F5J7yuvv0TBTI!~hup0RaI40RaF200000000000|EgA00{ru00;pA00961`Tqdk_U`W0RaITx+9Dz%s;alW?cLqls;axYyF^4qRaI8"
    b"sdv|wgs;aK;?GX_XRaIHH+q=89RaJL)c8G|Is;aEj?cLp~s;axYv_wQjRaItc-QC@)s;j%Zv_wQzRaItd-QC)%s;j%ZL_|bYRaRzX-"
    b"QC)%s=K?pL_|eZRaRzX-QB9Hs=K?iL_|eZRc2;o-QB9HtGm0jL_}3pRc2;o-P)?EtGl~IL_}3pR%T{q-P)?EySuwYL`79qR%T{)-"
    b"KwgpySubRL`79qW@cu0-"
    b"KwgqySubRL{(K)W@cx1+N!FnySqe0L{(K*W@cx8jjF1vySubRL{(K)W@cx1=&Gu!ySubRL`79qW@cu0ewwPPySuwYL`79qR%T{*cj~ID"
    b"tGl~IL_}3pR%T{rcYdm>tGm0jL_}3pRc2;qcX#Wms=K?iL_|eZRc2;pcXxies=K?pL_|eZRaRzZcX#+1`zosL?$Hqu6;)N4nVH|<XMT>"
    b"#tGm0jL_}3pRc2;q_!-^bqyO0e"
)


@pytest.mark.parametrize(
    ("syntax", "stream"),
    [(uid.JPEGLSLossless, JPEG_LS), (uid.JPEGLosslessSV1, JPEG_LOSSLESS)],
    ids=["JPEG-LS", "JPEG lossless"],
)
def test_jpeg_ls_and_lossless_jpeg(syntax, stream):
    ds = dataset(SLOPES, syntax=syntax, PixelData=encapsulate([base64.b85decode(stream)]))
    np.testing.assert_array_equal(Scan.open(written(ds)).pixels, SLOPES)


# ---- frames


@pytest.mark.parametrize("syntax", [uid.ExplicitVRLittleEndian, uid.JPEG2000Lossless])
def test_first_of_several_frames(syntax):
    frames = [np.roll(GREY, shift, 0) for shift in range(12)]
    data = (
        encapsulate([encoded(frame, "JPEG2000", irreversible=False) for frame in frames])
        if syntax == uid.JPEG2000Lossless
        else b"".join(frame.tobytes() for frame in frames)
    )
    scan = Scan.open(written(dataset(GREY, syntax=syntax, NumberOfFrames=12, PixelData=data)))
    np.testing.assert_array_equal(scan.pixels, GREY)
    assert scan.notes == ("first frame of 12",)


def test_only_the_first_frame_is_decoded():
    frames = [encoded(GREY, "JPEG2000", irreversible=False), b"\xff\x4f\xff\x51 not a picture ", b"nor this"]
    ds = dataset(GREY, syntax=uid.JPEG2000Lossless, NumberOfFrames=3, PixelData=encapsulate(frames))
    np.testing.assert_array_equal(Scan.open(written(ds)).pixels, GREY)


# ---- from stored values to a screen


def test_monochrome1_is_inverted():
    scan = Scan.open(written(dataset(GREY, "MONOCHROME1")))
    np.testing.assert_array_equal(scan.pixels, 255 - GREY)
    assert scan.notes == ("MONOCHROME1 inverted",)
    deep = Scan.open(written(dataset(DEEP, "MONOCHROME1", BitsStored=12, HighBit=11)))
    assert np.abs(deep.pixels - (255 - stretched(DEEP))).max() <= 0.5 + 1e-9


def test_12_and_16_bits_are_stretched_from_their_own_range():
    scan = Scan.open(written(dataset(DEEP, BitsStored=12, HighBit=11)))
    assert np.abs(scan.pixels - stretched(DEEP)).max() <= 0.5 + 1e-9
    assert scan.notes == (f"12 bit scaled from {DEEP.min()}..{DEEP.max()}",)
    signed = (DEEP.astype(int) - 2000).astype(np.int16)
    np.testing.assert_array_equal(Scan.open(written(dataset(signed))).pixels, scan.pixels)


def test_a_linear_window_follows_the_standard():
    """PS3.3 C.11.2.1.2.1, written out."""
    center, width = 2048.0, 1000.0
    share = (DEEP - (center - 0.5)) / (width - 1) + 0.5
    ds = dataset(DEEP, BitsStored=12, HighBit=11, WindowCenter=[center, 1.0], WindowWidth=[width, 2.0])
    scan = Scan.open(written(ds))
    assert np.abs(scan.pixels - np.clip(share, 0, 1) * 255).max() <= 0.5 + 1e-6
    assert scan.notes == ("window around 2048, width 1000 applied",)


def test_a_window_after_rescaling_and_a_sigmoid():
    ds = dataset(DEEP, RescaleSlope=2, RescaleIntercept=-1024, WindowCenter=3000, WindowWidth=2000)
    ds.VOILUTFunction = "LINEAR_EXACT"
    share = (DEEP * 2.0 - 1024 - 3000) / 2000 + 0.5
    assert np.abs(Scan.open(written(ds)).pixels - np.clip(share, 0, 1) * 255).max() <= 0.5 + 1e-6
    ds.VOILUTFunction = "SIGMOID"
    curve = 255 / (1 + np.exp(-4 * (DEEP * 2.0 - 1024 - 3000) / 2000))
    assert np.abs(Scan.open(written(ds)).pixels - curve).max() <= 0.5 + 1e-6


def test_the_window_of_all_8_bits_changes_nothing():
    np.testing.assert_array_equal(Scan.open(written(dataset(GREY, WindowCenter=128, WindowWidth=256))).pixels, GREY)


def test_a_look_up_table_is_applied():
    table = Dataset()
    table.LUTDescriptor = [256, 0, 16]
    table.add_new("LUTData", "OW", (np.arange(255, -1, -1) * 257).astype(np.uint16).tobytes())
    scan = Scan.open(written(dataset(GREY, VOILUTSequence=[table])))
    np.testing.assert_array_equal(scan.pixels, 255 - GREY)
    assert scan.notes == ("look-up table of its header applied",)


@pytest.mark.parametrize("bits", [8, 16])
def test_palette(bits):
    tables = RNG.integers(0, 256, (3, 256))
    ds = dataset(GREY, "PALETTE COLOR")
    for colour, table in zip(("Red", "Green", "Blue"), tables, strict=True):
        setattr(ds, f"{colour}PaletteColorLookupTableDescriptor", [256, 0, bits])
        words = table * 257 if bits == 16 else table
        setattr(
            ds, f"{colour}PaletteColorLookupTableData", words.astype(np.uint16 if bits == 16 else np.uint8).tobytes()
        )
    scan = Scan.open(written(ds))
    np.testing.assert_array_equal(scan.pixels, np.stack([table[GREY] for table in tables], axis=-1))
    assert scan.notes == ("palette applied",)


def test_rgb_planes_and_ybr():
    np.testing.assert_array_equal(Scan.open(written(dataset(COLOUR, "RGB"))).pixels, COLOUR)
    planes = dataset(COLOUR, "RGB", PlanarConfiguration=1, PixelData=COLOUR.transpose(2, 0, 1).tobytes())
    np.testing.assert_array_equal(Scan.open(written(planes)).pixels, COLOUR)
    ybr = convert_color_space(COLOUR, "RGB", "YBR_FULL")
    assert np.abs(Scan.open(written(dataset(ybr, "YBR_FULL"))).pixels.astype(int) - COLOUR).max() <= 3
    # one chroma pair for two pixels
    pairs = np.stack([ybr[:, ::2, 0], ybr[:, 1::2, 0], ybr[:, ::2, 1], ybr[:, ::2, 2]], axis=-1)
    halved = dataset(ybr, "YBR_FULL_422", PixelData=pairs.tobytes())
    luma = convert_color_space(Scan.open(written(halved)).pixels, "RGB", "YBR_FULL")[..., 0]
    assert np.median(np.abs(luma.astype(int) - ybr[..., 0])) <= 2


def test_grey_stored_as_rgb_becomes_grey_and_one_bit_becomes_black_and_white():
    np.testing.assert_array_equal(Scan.open(written(dataset(np.stack([GREY] * 3, -1), "RGB"))).pixels, GREY)
    bits = GREY > 127
    packed = np.packbits(bits, bitorder="little").tobytes()
    ds = dataset(GREY, BitsAllocated=1, BitsStored=1, HighBit=0, PixelData=packed)
    np.testing.assert_array_equal(Scan.open(written(ds)).pixels, bits * 255)


# ---- odd headers of real exports


def test_a_file_without_preamble_is_read():
    for syntax in (uid.ExplicitVRLittleEndian, uid.ImplicitVRLittleEndian, uid.DeflatedExplicitVRLittleEndian):
        data = written(dataset(GREY, syntax=syntax))[132:]
        np.testing.assert_array_equal(Scan.open(data).pixels, GREY)
    for implicit in (True, False):  # without the meta group either, as the oldest are
        ds = dataset(GREY)
        buffer = io.BytesIO()
        del ds.file_meta
        pydicom.dcmwrite(buffer, ds, implicit_vr=implicit, little_endian=True)
        np.testing.assert_array_equal(Scan.open(buffer.getvalue()).pixels, GREY)


def test_full_length_goes_before_a_header_that_says_ybr_full_422():
    scan = Scan.open(written(dataset(COLOUR, "YBR_FULL_422")))
    np.testing.assert_array_equal(scan.pixels, COLOUR)
    assert scan.notes == ("read as RGB, since its length is not that of the YBR_FULL_422 that its header says",)


def test_every_frame_can_be_asked_for():
    frames = RNG.integers(0, 256, (5, *GREY.shape), np.uint8)
    native = dataset(GREY, NumberOfFrames=5, PixelData=frames.tobytes())
    rle = dataset(GREY, NumberOfFrames=5, PixelData=frames.tobytes())
    rle.compress(uid.RLELossless)
    streams = [encoded(each, "JPEG2000", irreversible=False) for each in frames]
    j2k = dataset(GREY, syntax=uid.JPEG2000Lossless, NumberOfFrames=5, PixelData=encapsulate(streams))
    for ds in (native, rle, j2k):
        data = written(ds)
        assert frame_count(data) == 5
        for number in range(5):
            scan = Scan.open(data, frame=number)
            np.testing.assert_array_equal(scan.pixels, frames[number])
            assert scan.notes == (f"frame {number + 1} of 5" if number else "first frame of 5",)
            assert scan.frame == number
        with pytest.raises(DamagedScan):
            Scan.open(data, frame=5)
    cut = written(native)[: -2 * GREY.size - 20]
    np.testing.assert_array_equal(Scan.open(cut, frame=1).pixels, frames[1])
    with pytest.raises(DamagedScan, match="before its frame 4 is complete"):
        Scan.open(cut, frame=3)


def test_frames_of_single_bits_follow_each_other_without_a_gap():
    frames = RNG.integers(0, 2, (3, 21, 19), np.uint8)
    ds = dataset(frames[0], NumberOfFrames=3, BitsAllocated=1, BitsStored=1, HighBit=0)
    packed = np.packbits(frames.ravel(), bitorder="little").tobytes()
    ds.PixelData = packed + bytes(len(packed) % 2)
    for number, frame in enumerate(frames):
        np.testing.assert_array_equal(Scan.open(written(ds), frame=number).pixels, 255 * frame)


def test_a_damaged_jpeg_inside_is_told():
    data = encoded(cv2.resize(COLOUR[..., 0], (200, 160)), "JPEG", quality=90)
    cut = data[: len(data) // 2] + b"\xff\xd9"
    ds = dataset(np.zeros((160, 200), np.uint8), syntax=uid.JPEGBaseline8Bit, PixelData=encapsulate([cut]))
    assert "ends early" in Scan.open(written(ds)).damage


@pytest.mark.parametrize("at", range(600, 900, 37))
def test_damaged_compressed_pixels_end_no_process(at):
    """GDCM, which pydicom prefers where it is installed, ends the whole process on some of these."""
    stream = bytearray(encoded(cv2.resize(COLOUR[..., 0], (200, 160)), "JPEG", quality=90))
    for place in range(at, len(stream) - 2, 211):
        stream[place] ^= 0x55
    for syntax in (uid.JPEGBaseline8Bit, uid.JPEGLosslessSV1, uid.JPEG2000):
        ds = dataset(np.zeros((160, 200), np.uint8), syntax=syntax, PixelData=encapsulate([bytes(stream)]))
        with contextlib.suppress(DamagedScan):
            assert Scan.open(written(ds)).pixels.shape == (160, 200)


# ---- what cannot be read


def test_impossible_bits_and_pixels_left_out():
    stream = encapsulate([encoded(GREY, "JPEG")])
    wide = written(dataset(GREY, syntax=uid.JPEGBaseline8Bit, PixelData=stream, BitsAllocated=64))
    with pytest.raises(DamagedScan, match="64 bits per value"):
        Scan.open(wide)
    ds = dataset(GREY, Modality="SR")
    del ds.PixelData
    with pytest.raises(UnknownFormat, match=r"holds no image: .*'Ultrasound Image Storage', modality SR"):
        Scan.open(written(ds))


def test_wrong_look_up_tables_are_named():
    empty = Dataset()
    empty.LUTDescriptor, empty.LUTData = [256, 0, 8], []
    for sequence, what in (("VOILUTSequence", "VOI look-up table"), ("ModalityLUTSequence", "modality look-up table")):
        with pytest.raises(DamagedScan, match=f"'a.dcm' cannot be decoded .its {what} is empty"):
            Scan.open(written(dataset(GREY, **{sequence: [empty]})), name="a.dcm")
    with pytest.raises(DamagedScan, match="its red palette is missing"):
        Scan.open(written(dataset(GREY, "PALETTE COLOR")))


def test_limits_hold_before_decoding(monkeypatch):
    def never(*_, **__):
        raise AssertionError("decoded")

    monkeypatch.setattr(dicom, "_native", never)
    with pytest.raises(ScanTooLarge, match="60,000 x 60,000"):
        Scan.open(written(dataset(GREY, Rows=60_000, Columns=60_000)))
    with pytest.raises(ScanTooLarge, match="frames"):
        Scan.open(written(dataset(GREY, NumberOfFrames=2_000_000_000)))
    with pytest.raises(ScanTooSmall):
        Scan.open(written(dataset(GREY[:1, :1])))


def test_a_stream_of_another_size_is_refused():
    large = np.zeros((400, 500), np.uint8)
    for kind, syntax in (("JPEG", uid.JPEGBaseline8Bit), ("JPEG2000", uid.JPEG2000Lossless)):
        ds = dataset(GREY, syntax=syntax, PixelData=encapsulate([encoded(large, kind)]))
        with pytest.raises(DamagedScan, match="500 x 400"):
            Scan.open(written(ds))


def test_a_deflated_bomb_is_told_before_it_is_unpacked(monkeypatch):
    data = written(dataset(GREY, syntax=uid.DeflatedExplicitVRLittleEndian))
    start = 144 + int.from_bytes(data[140:144], "little")
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    bomb = b"".join(packer.compress(bytes(1 << 20)) for _ in range(300)) + packer.flush()
    monkeypatch.setattr(dicom.zlib, "decompress", lambda *_: pytest.fail("unpacked"))
    with pytest.raises(ScanTooLarge, match="unpacks to more than 200 MB"):
        Scan.open(data[:start] + bomb)


def test_no_picture_a_video_and_too_many_entries():
    report = dataset(GREY)
    for tag in ("Rows", "Columns", "PixelData"):
        delattr(report, tag)
    with pytest.raises(UnknownFormat, match="holds no image: it is of the kind 'Ultrasound Image Storage'"):
        Scan.open(written(report))
    with pytest.raises(UnknownFormat, match="MPEG"):
        Scan.open(written(dataset(GREY, syntax=uid.MPEG2MPML, PixelData=encapsulate([b"\x00\x00\x01\xb3"]))))
    crowded = dataset(GREY)
    head, pixels = written(crowded).split(b"\x28\x00\x02\x00US", 1)
    filler = b"\x10\x00\x00\x40LT\x00\x00" * (dicom.MAX_ELEMENTS + 1)
    with pytest.raises(DamagedScan, match="header entries"):
        Scan.open(head + filler + b"\x28\x00\x02\x00US" + pixels)


def test_without_pydicom_the_error_names_the_pip_line(monkeypatch):
    data = written(dataset(GREY))
    monkeypatch.setitem(sys.modules, "pydicom", None)
    monkeypatch.delitem(sys.modules, "bcx.imaging.dicom")
    monkeypatch.delattr("bcx.imaging.dicom")
    with pytest.raises(MissingExtra) as caught:
        Scan.open(data)
    assert 'pip install "bcx[dicom]"' in caught.value.remedy


def test_without_a_decoder_the_error_names_the_pip_line(monkeypatch):
    from pydicom.pixels.decoders.base import Decoder

    stream = encoded(GREY, "JPEG2000", irreversible=False)
    data = written(dataset(GREY, syntax=uid.JPEG2000Lossless, PixelData=encapsulate([stream])))
    monkeypatch.setattr(Decoder, "is_available", property(lambda self: False))
    with pytest.raises(MissingExtra, match="JPEG 2000") as caught:
        Scan.open(data)
    assert 'pip install "bcx[dicom]"' in caught.value.remedy


def test_numbers_that_are_not_finite():
    ds = dataset(GREY, BitsAllocated=32, BitsStored=32, HighBit=31)
    del ds.PixelData
    values = RNG.normal(size=GREY.shape).astype(np.float32)
    ds.FloatPixelData = values.tobytes()
    assert np.abs(Scan.open(written(ds)).pixels - stretched(values)).max() <= 0.5 + 1e-3
    values[3, 3] = np.nan
    ds.FloatPixelData = values.tobytes()
    with pytest.raises(BcxError, match="not finite"):
        Scan.open(written(ds))


def test_errors_do_not_name_the_patient():
    with pytest.raises(DamagedScan) as caught:
        Scan.open(written(dataset(GREY))[:-200], name="a.dcm")
    assert "Nobody" not in str(caught.value)
    assert "a.dcm" in str(caught.value)


def files() -> dict[str, bytes]:
    rle = dataset(GREY)
    rle.compress(uid.RLELossless)
    jpeg = encapsulate([encoded(COLOUR, "JPEG")])
    j2k = encapsulate([encoded(COLOUR, "JPEG2000", irreversible=False, mct=1)])
    return {
        "native": written(dataset(GREY)),
        "rle": written(rle),
        "deflated": written(dataset(GREY, syntax=uid.DeflatedExplicitVRLittleEndian)),
        "jpeg": written(dataset(COLOUR, "YBR_FULL_422", uid.JPEGBaseline8Bit, PixelData=jpeg)),
        "jpeg2000": written(dataset(COLOUR, "YBR_RCT", uid.JPEG2000Lossless, PixelData=j2k)),
    }


FILES = files()


@pytest.mark.parametrize("kind", FILES)
def test_a_file_cut_anywhere_is_an_error_or_the_same_picture(kind):
    data = FILES[kind]
    whole = Scan.open(data).pixels
    refused = 0
    for length in {*range(0, len(data), 61), *range(len(data) - 40, len(data))}:
        try:
            np.testing.assert_array_equal(Scan.open(data[:length]).pixels, whole)
        except BcxError:
            refused += 1
    assert refused > 5


def region(x: float, y: float, unit: int = 3) -> Dataset:
    found = Dataset()
    found.PhysicalUnitsXDirection = found.PhysicalUnitsYDirection = unit
    found.PhysicalDeltaX, found.PhysicalDeltaY = x, y
    return found


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ({}, None),
        ({"PixelSpacing": [0.07, 0.07]}, 0.07),
        ({"PixelSpacing": [0.07, 0.14]}, None),  # no square
        ({"SequenceOfUltrasoundRegions": [region(0.008, -0.008)], "PixelSpacing": [1, 1]}, 0.08),
        ({"SequenceOfUltrasoundRegions": [region(0.008, 0.008), region(0.02, 0.02)]}, None),  # which one?
        ({"SequenceOfUltrasoundRegions": [region(0.008, 0.008), region(0.5, 0.5, unit=4)]}, 0.08),  # seconds: Doppler
        ({"PixelSpacing": [0, 0]}, None),
        ({"PixelSpacing": [1e9, 1e9]}, None),
    ],
)
def test_millimetres_per_pixel(tags, expected):
    found = Scan.open(written(dataset(np.zeros((40, 40), np.uint8), **tags))).mm_per_pixel
    assert found == (None if expected is None else pytest.approx(expected))
