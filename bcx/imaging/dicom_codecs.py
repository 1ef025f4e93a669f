"""imagecodecs as a decoder of pydicom, for lossless and 12-bit JPEG and JPEG-LS: GDCM crashes on some damaged files."""

from typing import Any

import numpy as np
from pydicom import uid
from pydicom.pixels.decoders.base import DecodeRunner, get_decoder
from pydicom.pixels.processing import convert_color_space

_JPEG = (uid.JPEGBaseline8Bit, uid.JPEGExtended12Bit, uid.JPEGLossless, uid.JPEGLosslessSV1)
_JPEG_LS = (uid.JPEGLSLossless, uid.JPEGLSNearLossless)
#: In this order; GDCM is left out, wherever it is installed.
_PLUGINS = ("pillow", "pylibjpeg", "pydicom", "imagecodecs")
_ROWS = 256
#: What pydicom asks a plugin for: what each transfer syntax needs.
DECODER_DEPENDENCIES = dict.fromkeys((*_JPEG, *_JPEG_LS), ("imagecodecs>=2025.3.30",))


def is_available(syntax: str) -> bool:
    """Tell pydicom whether this plugin decodes a transfer syntax here."""
    try:
        import imagecodecs  # noqa: F401
    except ImportError:
        return False
    return syntax in DECODER_DEPENDENCIES


def decode_frame(stream: bytes, runner: DecodeRunner) -> bytes:
    """Decode one frame, as pydicom asks a plugin to."""
    from imagecodecs import jpeg_decode, jpegls_decode

    if runner.transfer_syntax in _JPEG_LS:
        values = jpegls_decode(stream)
    elif runner.samples_per_pixel == 1:
        values = jpeg_decode(stream)
    else:
        values = jpeg_decode(stream, outcolorspace="RGB")
        runner.set_option("photometric_interpretation", "RGB")
    values = np.asarray(values)
    runner.set_option("bits_allocated", 8 * values.dtype.itemsize)
    if runner.samples_per_pixel > 1:
        runner.set_option("planar_configuration", 0)
    return np.ascontiguousarray(values).tobytes()


def decode_pixels(data: bytes, syntax: str, options: dict[str, Any]) -> tuple[np.ndarray, dict[str, Any]]:
    """Decode one frame, as it stands or encapsulated, with whichever of pydicom's plugins reads it; its last error.

    The options are those of pydicom's `Decoder.as_array`. Returns values [H, W] or [H, W, 3], YCbCr as RGB, and no
    facts, as `run_isolated` asks.
    """
    decoder = get_decoder(uid.UID(syntax))
    if is_available(syntax) and "imagecodecs" not in decoder.available_plugins:
        decoder.add_plugin("imagecodecs", (__name__, "decode_frame"))
    plugins = [plugin for plugin in _PLUGINS if plugin in decoder.available_plugins]
    last: Exception = ValueError("no decoder for it is installed")
    for plugin in plugins if decoder.is_encapsulated else [""]:
        try:
            return _in_rgb(*decoder.as_array(data, index=0, raw=True, decoding_plugin=plugin, **options)), {}
        except Exception as error:  # each plugin has exceptions of its own
            last = error
    raise last


def _in_rgb(values: np.ndarray, described: dict[str, Any]) -> np.ndarray:
    """Turn YCbCr into RGB in strips, since pydicom computes with four bytes for each."""
    kind = str(described["photometric_interpretation"])
    if kind not in ("YBR_FULL", "YBR_FULL_422"):
        return values
    for start in range(0, len(values), _ROWS):
        values[start : start + _ROWS] = convert_color_space(values[start : start + _ROWS], kind, "RGB")
    return values
