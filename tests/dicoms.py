"""Simulated ultrasound as a machine would store it in DICOM; benchmarks use it too."""

import io
from typing import Any

import cv2
import numpy as np
import pydicom
from pydicom import uid
from pydicom.dataset import Dataset, FileMetaDataset


def framed(scan: np.ndarray, left: int = 90, top: int = 60, size: tuple[int, int] = (480, 640)) -> np.ndarray:
    """Put a scan into a machine's frame: black, with a name above and a grey bar beside."""
    picture = np.zeros((*size, *scan.shape[2:]), np.uint8)
    picture[top : top + scan.shape[0], left : left + scan.shape[1]] = scan
    cv2.putText(picture, "NOBODY, ANNA  F 1970", (12, 32), cv2.FONT_HERSHEY_SIMPLEX, 0.6, (255,) * 3, 1)
    picture[100:300, 20:34] = np.linspace(255, 0, 200, dtype=np.uint8).reshape(200, 1, *[1] * (scan.ndim - 2))
    return picture


def region(left: int, top: int, right: int, bottom: int, **tags: Any) -> Dataset:
    """Return an item of SequenceOfUltrasoundRegions: B-mode tissue of 0.1 mm per pixel, edges as DICOM counts."""
    item = Dataset()
    item.RegionSpatialFormat, item.RegionDataType, item.RegionFlags = 1, 1, 0
    item.RegionLocationMinX0, item.RegionLocationMinY0 = left, top
    item.RegionLocationMaxX1, item.RegionLocationMaxY1 = right, bottom
    item.PhysicalUnitsXDirection = item.PhysicalUnitsYDirection = 3
    item.PhysicalDeltaX = item.PhysicalDeltaY = 0.01
    for keyword, value in tags.items():
        if value is None:
            delattr(item, keyword)
        else:
            setattr(item, keyword, value)
    return item


def ultrasound(pixels: np.ndarray, frames: int = 1, **tags: Any) -> bytes:
    """Return a DICOM file of an ultrasound image, or of a clip that shows the same picture in every frame.

    Args:
        pixels: uint8 [H, W] or [H, W, 3].
        frames: how many.
        tags: by keyword, in place of those written here; None leaves one out.
    """
    kind = uid.UltrasoundImageStorage if frames == 1 else uid.UltrasoundMultiFrameImageStorage
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.SOPClassUID, ds.SOPInstanceUID = kind, "1.2.3.1.1"
    ds.StudyInstanceUID, ds.SeriesInstanceUID = "1.2.3", "1.2.3.1"
    ds.StudyDate, ds.StudyTime, ds.StudyID = "20260102", "120000", "7"
    ds.AccessionNumber, ds.ReferringPhysicianName = "A1", ""
    ds.Modality, ds.Manufacturer, ds.SeriesNumber, ds.InstanceNumber = "US", "simulated", 1, 1
    ds.PatientName, ds.PatientID, ds.PatientBirthDate, ds.PatientSex = "Simulated^Ännchen", "S1", "19700101", "F"
    ds.Laterality, ds.PatientOrientation, ds.ImageType = "L", "", ["ORIGINAL", "PRIMARY"]
    ds.Rows, ds.Columns = pixels.shape[:2]
    ds.SamplesPerPixel = 3 if pixels.ndim == 3 else 1
    ds.PhotometricInterpretation = "RGB" if pixels.ndim == 3 else "MONOCHROME2"
    if pixels.ndim == 3:
        ds.PlanarConfiguration = 0
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 8, 8, 7, 0
    if frames > 1:
        ds.NumberOfFrames, ds.FrameTime = frames, "40"
        ds.FrameIncrementPointer = 0x00181063
    ds.PixelData = pixels.tobytes() * frames + b"\0" * (pixels.size * frames % 2)
    ds["PixelData"].VR = "OB"
    for keyword, value in tags.items():
        if value is None:
            delattr(ds, keyword)
        else:
            setattr(ds, keyword, value)
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, ds, enforce_file_format=True)
    return buffer.getvalue()
