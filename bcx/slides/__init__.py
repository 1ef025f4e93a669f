"""Slides: pictures far larger than what a network looks at, read tile by tile into a map of probabilities.

from bcx.slides import read_slide
reading = read_slide(bcx.load("mobilenetv2-idc"), "slide.tif")
reading.summary["positive_share"]
reading.overlay().save("map.png")
"""

from bcx.slides.read import SlideProgress, read_slide, stream_slide
from bcx.slides.reader import Slide
from bcx.slides.reading import SlideReading
from bcx.slides.write import write_reading

__all__ = ["Slide", "SlideProgress", "SlideReading", "read_slide", "stream_slide", "write_reading"]
