"""Patches put together for one step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepscem_tui.engine.networks.neighbours import as_channels

__all__ = ["Batch", "assemble", "empty_batch", "make_finite"]


@dataclass(frozen=True)
class Batch:
    """Patches for one step.

    Args:
        images: float32 (B, Z, Y, X, 1), 0-1; (B, Y, X, slices) for a 2D network, which mostly takes one.
        labels: uint8 (B, Z, Y, X, L), 0 or 1; without Z for a 2D network. Of data that are annotated in part there is
            one channel more, the last: 1 where nobody has annotated.
    """

    images: NDArray[np.float32]
    labels: NDArray[np.uint8]

    def flattened(self) -> Batch:
        """For a 2D network: the slices as channels, with the labels of the middle one."""
        return Batch(as_channels(self.images[..., 0]), self.labels[:, self.labels.shape[1] // 2])


def empty_batch(size: int, patch: Sequence[int], n_labels: int) -> Batch:
    """A batch to be filled, with Z."""
    return Batch(np.empty((size, *patch, 1), np.float32), np.empty((size, *patch, n_labels), np.uint8))


def make_finite(image: NDArray[Any]) -> None:
    """Replace what is no number, in place: DeepSCEM makes NaN of a constant image."""
    if not np.isfinite(image).all():
        np.nan_to_num(image, copy=False, nan=0.0, posinf=1.0, neginf=0.0)


def assemble(patches: Sequence[Sequence[NDArray[np.generic]]], flat: bool) -> Batch:
    """Stack patches, each an image and its labels (Z, Y, X), into a batch.

    Args:
        patches: At least one.
        flat: Whether slices are channels, for a 2D network.
    """
    batch = empty_batch(len(patches), patches[0][0].shape, len(patches[0]) - 1)
    for index, (image, *masks) in enumerate(patches):
        batch.images[index, ..., 0] = image
        for channel, mask in enumerate(masks):
            batch.labels[index, ..., channel] = mask != 0  # in files of others a mask may be 0 and 255
    make_finite(batch.images)
    return batch.flattened() if flat else batch
