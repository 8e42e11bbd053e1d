"""Segment electron-microscopy volumes with deep networks, in a terminal."""

__version__ = "0.1.0"
