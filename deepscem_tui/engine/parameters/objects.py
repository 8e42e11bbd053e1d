"""Masks made cleaner, and objects found in them."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import model_validator

from deepscem_tui.engine.parameters.kinds import Connectivity, Extent, Holes, Length, Writing, argument, option, wrong


class Cleaning(Writing):
    """What is done to masks before they are written or their objects found, in this order."""

    input: Path = argument(
        "Data set with predictions, or else labels, or an image file: masks, or probabilities.",
        opens="dataset or image",
    )
    sample: tuple[str, ...] = option(
        (), "Sample of the data set, may be repeated; all of them if not given.", within="input.samples",
        otherwise="all",
    )  # fmt: skip
    threshold: float = option(0.5, "Probabilities above it are foreground.", ge=0, le=1)
    smooth: Length | None = option(
        None,
        "Smooth outlines: blur by a Gaussian of this standard deviation and cut at one half; smaller details go. In "
        "voxels (of their shortest side), or a length such as 20nm.",
        otherwise="not",
    )
    fill_holes: Holes | None = option(
        None,
        "Fill the holes: all, or those up to a size in voxels, such as 500, or a volume, such as 0.001um3.",
        otherwise="none",
    )
    holes_in: Literal["volume", "slices"] = option(
        "volume", "Where a hole must be closed: in the volume, or in each slice by itself.", more=True
    )
    min_size: Extent | None = option(
        None,
        "Remove objects that are smaller: in voxels, such as 500, or a volume, such as 0.01um3.",
        otherwise="none",
        title="Smallest object",
    )
    connectivity: Connectivity = option(
        6,
        "Neighbours that belong to the same object: through faces (6), edges too (18), corners too (26).",
        "neighbours",
        more=True,
    )

    @model_validator(mode="after")
    def _holes_of_slices(self) -> Cleaning:
        if self.holes_in == "slices" and self.fill_holes is None:
            raise wrong(
                "fill_holes", "--holes-in slices says only which holes: say how large with --fill-holes, such as all"
            )
        return self


class CleanMasks(Cleaning):
    """Smooth masks, fill their holes and remove what is too small: of a data set's predictions, or an image file.

    OUT is a data set (.hdf5), or an image file (with several labels one file each, OUT_<label>.tif).
    """

    out: Path = argument("Result to make: a data set (.hdf5), or an image file.", makes="dataset or made image")

    @model_validator(mode="after")
    def _something(self) -> CleanMasks:
        if self.smooth is None and self.fill_holes is None and self.min_size is None:
            raise wrong("min_size", "there is nothing to do: give --smooth, --fill-holes or --min-size")
        return self


class FindObjects(Cleaning):
    """Find the single objects of masks or probabilities, number them, and measure each: size, surface, place, shape.

    OUT is an image file of their numbers (uint16, or uint32 for more than 65,535); one file for each sample and label
    where there are several, OUT_<sample>_<label>.tif.
    """

    out: Path | None = argument(
        "Image file to make, of the objects' numbers; none if not given.",
        default=None,
        makes="made image",
        otherwise="none",
    )
    csv: Path | None = option(
        None, "Write the table of all objects to this file.", makes="csv", otherwise="none", title="Table (CSV)"
    )
    split_touching: Length | None = option(
        None,
        "Divide objects at necks that are narrower than the parts beside them by this much or more, measured from "
        "their middle: in voxels (of their shortest side), or a length such as 50nm.",
        otherwise="not",
    )
    leave_out_edge: bool = option(False, "Leave out objects that the edge of the volume cuts.", title="Leave out edge")
    instances: bool = option(
        False,
        "INPUT holds numbers of objects, each above 0 one of its own, as other programs write them: they are measured, "
        "and keep their numbers.",
        more=True,
    )

    @model_validator(mode="after")
    def _instances_as_they_are(self) -> FindObjects:
        for name in ("smooth", "fill_holes", "split_touching"):
            if self.instances and getattr(self, name) is not None:
                raise wrong(
                    name,
                    f"--{name.replace('_', '-')} is for masks, and --instances says that there are objects already",
                )
        return self
