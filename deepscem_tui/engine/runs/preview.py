"""A run's preview slice: one file format for training and prediction, small, and safe to read from anybody.

A NumPy archive without pickles: ``image`` uint8 (Y, X); ``prediction`` uint8 (L, Y, X) from 0 to 255; ``labels`` uint8
(L, Y, X), 0 or 1, if they are known; ``known`` uint8 (Y, X), 0 or 1, where not all of it is computed yet; ``about``,
JSON with ``sample``, ``z``, ``axis``, the labels' ``names`` and their ``thresholds``. No side is above 512 pixels.
"""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from deepscem_tui.engine.errors import RunError
from deepscem_tui.engine.evaluation.thresholds import UNTUNED
from deepscem_tui.engine.system.files import sweep, temporary_name

__all__ = ["RunPreview", "read", "write"]

Bytes = npt.NDArray[np.uint8]

MOST_PIXELS = 512  # along a side
_MOST_BYTES = 64 << 20  # of a file that is read
_MOST_LABELS = 100


@dataclass(frozen=True)
class RunPreview:
    """A slice and what the network says of it.

    Args:
        image: uint8 (Y, X).
        prediction: uint8 (L, Y, X), 0 to 255.
        names: Of the labels.
        sample: Where the slice is from.
        z: Its number in the sample, along ``axis``.
        labels: uint8 (L, Y, X), 0 or 1; None if not known.
        known: uint8 (Y, X), 1 where the prediction is computed; None if all of it is.
        axis: ``"z"``, or ``"y"`` or ``"x"`` of a slice across.
        thresholds: One a label, 0 to 1, above which the prediction is foreground.
    """

    image: Bytes
    prediction: Bytes
    names: tuple[str, ...]
    sample: str
    z: int
    labels: Bytes | None = None
    known: Bytes | None = None
    axis: str = "z"
    thresholds: tuple[float, ...] = ()


def grey(values: npt.NDArray[Any]) -> Bytes:
    """Values from 0 to 1 as 0 to 255; what is no number is 0."""
    exact = np.clip(np.nan_to_num(values.astype(np.float32)), 0, 1) * 255
    result: Bytes = np.rint(exact).astype(np.uint8)
    return result


def write(
    path: Path,
    image: npt.NDArray[Any],
    prediction: npt.NDArray[Any],
    names: Sequence[str],
    sample: str,
    z: int,
    labels: npt.NDArray[Any] | None = None,
    known: npt.NDArray[Any] | None = None,
    axis: str = "z",
    thresholds: Sequence[float] | None = None,
) -> bool:
    """Write a preview, reduced to at most 512 x 512; a file of that name is replaced at once.

    Args:
        image: (Y, X), 0 to 1.
        prediction: (L, Y, X), 0 to 1.
        labels: (L, Y, X), above 0 is set.
        known: bool (Y, X), where the prediction is computed.
        axis: Along which ``z`` counts.
        thresholds: One a label; None for 0.5.

    Returns:
        Whether it could be written: nothing depends on it, so that a full disk does not end a run here.
    """
    step = ceil(max(image.shape) / MOST_PIXELS)
    arrays = {"image": grey(_reduced(image, step)), "prediction": grey(_reduced(prediction, step))}
    if labels is not None:
        arrays["labels"] = (_reduced(labels > 0, step) >= 0.5).astype(np.uint8)
    if known is not None:
        arrays["known"] = (_reduced(known, step) >= 0.5).astype(np.uint8)
    limits = [UNTUNED] * len(names) if thresholds is None else list(thresholds)
    about = json.dumps({"sample": sample, "z": z, "axis": axis, "names": list(names), "thresholds": limits}).encode()
    temporary = temporary_name(path)
    try:  # not synced to the disk
        path.parent.mkdir(parents=True, exist_ok=True)
        sweep(path.parent)
        with temporary.open("xb") as file:
            np.savez(file, about=np.frombuffer(about, np.uint8), **arrays)  # type: ignore[arg-type]
        temporary.replace(path)
    except BaseException as error:
        with suppress(OSError):
            temporary.unlink()
        if isinstance(error, OSError):
            return False
        raise
    return True


def read(path: Path) -> RunPreview:
    """Read a preview.

    Raises:
        RunError: if it is none, or cannot be read.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            if sum(item.file_size for item in archive.infolist()) > _MOST_BYTES:
                raise ValueError("it is too large")
        with np.load(path, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
        about = json.loads(arrays.pop("about").tobytes())
        return _checked(arrays, about)
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError,
            RuntimeError, AttributeError, MemoryError) as error:  # fmt: skip
        raise RunError(f"The preview {path} cannot be used: {error}", "The run shows the next one.") from None


def _checked(arrays: dict[str, Any], about: Any) -> RunPreview:
    names = tuple(str(name) for name in about["names"])
    height, width = arrays["image"].shape
    shapes = {"image": (height, width), "known": (height, width)}
    for name, array in arrays.items():
        if array.dtype != np.uint8 or array.shape != shapes.get(name, (len(names), height, width)):
            raise ValueError(f"{name} is {array.dtype} {array.shape}")
    if not 0 < height <= MOST_PIXELS or not 0 < width <= MOST_PIXELS or not 0 < len(names) <= _MOST_LABELS:
        raise ValueError(f"it has {len(names)} labels of {height} x {width} pixels")
    axis = about.get("axis", "z")
    if axis not in ("z", "y", "x"):
        raise ValueError(f"there is no axis {axis!r}")
    thresholds = tuple(map(float, about.get("thresholds", [UNTUNED] * len(names))))
    if len(thresholds) != len(names) or not all(0 <= threshold <= 1 for threshold in thresholds):
        raise ValueError(f"it has the thresholds {thresholds} for {len(names)} labels")
    return RunPreview(
        arrays["image"], arrays["prediction"], names, str(about["sample"]), int(about["z"]),
        arrays.get("labels"), arrays.get("known"), axis, thresholds,
    )  # fmt: skip


def _reduced(array: npt.NDArray[Any], step: int) -> npt.NDArray[Any]:
    """Means over squares of ``step`` pixels along the last two axes; those at the end may be smaller."""
    if step == 1:
        return array
    for axis in (array.ndim - 2, array.ndim - 1):
        starts = np.arange(0, array.shape[axis], step)
        sums = np.add.reduceat(array, starts, axis=axis, dtype=np.float32)
        counts = np.diff([*starts, array.shape[axis]]).astype(np.float32)
        shape = [1] * array.ndim
        shape[axis] = len(counts)
        array = sums / counts.reshape(shape)
    return array
