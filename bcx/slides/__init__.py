"""Slides: images far larger than a network's input, read tile by tile into a map of probabilities."""

from bcx.slides.read import SlideProgress, read_slide, stream_slide
from bcx.slides.result import SlideReading, write_reading
from bcx.slides.slide import Slide

__all__ = ["Slide", "SlideProgress", "SlideReading", "read_slide", "stream_slide", "write_reading"]
