"""The action `convert-image`: an image file in another format, slab by slab."""

from __future__ import annotations

from math import prod

from deepscem_tui.engine import parameters as p
from deepscem_tui.engine import words
from deepscem_tui.engine.context import Context
from deepscem_tui.engine.errors import ParameterError
from deepscem_tui.engine.formats.slice_files import open_slices
from deepscem_tui.engine.formats.volume_writer import check_target, create_volume
from deepscem_tui.engine.results import Result
from deepscem_tui.engine.sources.inputs import refuse_among_slices, same_file
from deepscem_tui.engine.system.space import check_room

__all__ = ["convert_image"]

_OF_IDS = 4  # bytes of a voxel that no microscope fills with grey values


def convert_image(parameters: p.ConvertImage, context: Context) -> Result:
    """Write an image that is read here as a file of any format that is written here, holding a slab at a time.

    Raises:
        ParameterError: OUT exists already, is IMAGE itself, or is of a format that cannot hold it.
        VolumeError: IMAGE cannot be read.
        ResourceError: the disk is full.
        Stopped: on request; nothing is left of OUT.
    """
    image, out = parameters.image, parameters.out
    if same_file(image, out):
        raise ParameterError(f"OUT is IMAGE itself, {out}", "Give the result a file of its own.", "out")
    refuse_among_slices("IMAGE", image, out)
    with open_slices(image, colours=False) as volume:
        place, known = check_target(out, volume.dtype, parameters.overwrite)
        for text in volume.warnings:
            context.report.warning(f"{image}: {text}")
        size, unit = volume.voxel_size, volume.voxel_unit
        if parameters.voxel_size is not None:
            *given, unit = parameters.voxel_size
            size = (given[0], given[1], given[2])
        scale = volume.scale if known.scale else None
        if scale != volume.scale:
            context.report.warning(f"{out} does not say that its values are probabilities: {volume.scale:g} is 1 step")
        stored = known.stored(volume.dtype)
        if known.averages and not parameters.labels and stored.kind in "iu" and stored.itemsize >= _OF_IDS:
            what = f"{stored.name} values are averaged in the smaller copies that {out} has"
            context.report.warning(f"{what}: if they are labels or numbers of objects, give --labels")
        facts = {
            "out": str(out),
            "shape": list(volume.shape),
            "type": stored.name,
            "voxel_size": list(size) if size else None,
            "voxel_unit": unit if size else None,
            "format": known.name,
        }
        about = f"{out}: {known.name}, {words.sizes(volume.shape)} (Z, Y, X), {stored.name}"
        if parameters.dry_run:
            return Result(f"Would write {about}", facts)
        check_room({place.file: prod(volume.shape) * known.least_bytes(volume.dtype)})
        task, depth = f"Writing {place.file.name}", volume.shape[0]
        with create_volume(
            out,
            volume.shape,
            volume.dtype,
            voxel_size=size,
            voxel_unit=unit if size else "",
            scale=scale,
            labels=parameters.labels,
            overwrite=parameters.overwrite,
        ) as writer:
            for _, z1, slab in volume.slabs():
                context.stop.check()
                writer.write(slab)
                context.report.progress(task, z1, depth, "slices")
    return Result(f"Wrote {about}", facts)
