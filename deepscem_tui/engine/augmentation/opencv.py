"""OpenCV, one thread a call: the threads that make patches are enough, and more would fight with the network's."""

from __future__ import annotations

import cv2

__all__ = ["cv2"]

cv2.setNumThreads(1)
