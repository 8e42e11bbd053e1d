"""A prediction in parts: processes on any nodes compute slabs of one plan, and the action `merge` makes the result.

The parts lie in the folder ``OUT.shards`` beside the result: the plan, which the first process fixes for all; what was
asked for, as ``predict.json``, and of which model and images, as ``made-of.json``; and the finished slabs.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from deepscem_tui.engine import parameters as p
from deepscem_tui.engine import words
from deepscem_tui.engine.context import Context
from deepscem_tui.engine.errors import RunError
from deepscem_tui.engine.formats import place_of
from deepscem_tui.engine.models.info import read_info
from deepscem_tui.engine.prediction.orthogonal import Mean, ReadSlab
from deepscem_tui.engine.prediction.output import check_output, least_output_bytes, open_output, output_files
from deepscem_tui.engine.prediction.plan import PredictionPlan, SamplePlan, plan_file, read_plan
from deepscem_tui.engine.prediction.slabs import SlabStore
from deepscem_tui.engine.prediction.values import values_of
from deepscem_tui.engine.results import Result
from deepscem_tui.engine.sources.inputs import InputImage, open_images
from deepscem_tui.engine.system.files import regular, write_text
from deepscem_tui.engine.system.space import check_room

__all__ = ["agreed_plan", "merge", "parts", "shards_folder"]

_MADE_OF = "made-of.json"
_ANEW = "To begin anew, remove the folder of the parts first."
_OWN = {"shard": None, "resume": False, "overwrite": False, "dry_run": False}  # of a part, not of the result


def shards_folder(out: Path) -> Path:
    """Where the parts of a result lie."""
    file = place_of(out).file
    return file.with_name(file.name + ".shards")


def parts(plan: PredictionPlan, shard: tuple[int, int] | None) -> list[range]:
    """The slabs of each sample that a shard computes: of all slabs in order, the I-th of N runs."""
    counts = [len(sample.layers) for sample in plan.samples]
    number, of = shard or (1, 1)
    first, last = ((sum(counts) * edge) // of for edge in (number - 1, number))
    found, before = [], 0
    for count in counts:
        found.append(range(min(count, max(0, first - before)), min(count, max(0, last - before))))
        before += count
    return found


def agreed_plan(parameters: p.Predict, plan: PredictionPlan, images: Sequence[InputImage]) -> PredictionPlan:
    """Fix a plan for all shards, or take that which another has fixed meanwhile.

    Raises:
        RunError: other shards were asked for something else, or made of something else.
    """
    folder = shards_folder(parameters.out)
    folder.mkdir(parents=True, exist_ok=True)
    asked = _asked(parameters)
    _publish_first(folder / "predict.json", json.dumps(asked, indent=1))
    there = _read_asked(folder)
    other = sorted(name for name in asked if there.get(name) != asked[name])
    if other:
        raise RunError(
            f"Other parts in {folder} were made with another {', '.join(other)}",
            f"Give all of them the same parameters. {_ANEW}",
        )
    made_of = _made_of(parameters.model, images)
    _publish_first(folder / _MADE_OF, json.dumps(made_of, indent=1))
    _refuse_others([folder], made_of)
    if not plan_file(folder).exists():
        _publish_first(plan_file(folder), json.dumps(plan.as_json(), indent=1))
    return read_plan(folder)


def merge(parameters: p.Merge, context: Context) -> Result:
    """Make one result of the parts of a prediction.

    Raises:
        RunError: a part is missing or damaged, or parts do not belong together.
        EngineError: as `predict` says of its input, its model and its result.
    """
    folders = [Path(name) for name in parameters.shards]
    asked, plan = _read_asked(folders[0]), read_plan(folders[0])
    for folder in folders[1:]:
        if _read_asked(folder) != asked or read_plan(folder) != plan:
            raise RunError(f"{folder} and {folders[0]} are parts of different predictions", "Merge those of one.")
    changes = {"out": parameters.out, "overwrite": parameters.overwrite}
    wanted = p.Predict.model_validate(asked | changes)
    info = read_info(wanted.model)
    with open_images(wanted.input, wanted.sample, context) as images:
        check_output(wanted, [image.source.name for image in images], info.label_names, context.report)
        if {image.source.name: image.source.shape for image in images} != plan.shapes:
            raise RunError(f"{wanted.input} is not what {folders[0]} was predicted from", "Predict it anew.")
        _refuse_others(folders, _made_of(wanted.model, images))
        _refuse_gaps(folders, plan)
        n_slabs = sum(len(sample.layers) for sample in plan.samples)
        files = [str(path) for path in output_files(wanted.out, info.label_names)]
        facts: dict[str, Any] = {"files": files, "slabs": n_slabs}
        what = f"{words.counted(n_slabs, 'slab')} into {', '.join(files)}"
        if parameters.dry_run:
            return Result(f"Would merge {what}", facts)
        check_room({wanted.out: sum(least_output_bytes(wanted, info, image) for image in images)})
        if wanted.image:  # its copy needs its range
            images = [image.measured(info.normalization, context) for image in images]
        by_name = {image.source.name: image for image in images}
        done = 0
        with open_output(wanted, info, images) as output:
            across: list[tuple[SamplePlan, ReadSlab]] = []
            for number, sample in enumerate(plan.samples):
                read = partial(_read_slab, folders, number)
                if sample.plane != "xy":
                    across.append((sample, read))
                    done += len(sample.layers)
                    continue
                image = by_name[sample.sample]
                mean = Mean(across, values_of(wanted, info)) if across else None
                sink, image_sink = output.sinks(image)
                for index, layer in enumerate(sample.layers):
                    context.stop.check()
                    context.report.progress("Merging", done, n_slabs, "slabs", image.source.name)
                    first, labels, voxels = layer.own[0], read(index), image.source.read(*layer.own)
                    image_sink(first, voxels)
                    sink(first, labels if mean is None else mean.of(first, labels), voxels)
                    done += 1
                across = []
        context.report.progress("Merging", done, n_slabs, "slabs")
    return Result(f"Merged {what}; {', '.join(map(str, folders))} can be removed now", facts)


def _store_of(folders: Sequence[Path], sample: int, index: int) -> SlabStore:
    """That which has a slab; the first if none has."""
    stores = [SlabStore(folder / "slabs", sample) for folder in folders]
    return next((store for store in stores if store.has(index)), stores[0])


def _read_slab(folders: Sequence[Path], sample: int, index: int, rows: slice | None = None) -> Any:
    """A slab, or rows of it, from the folder that has it."""
    return _store_of(folders, sample, index).read(index, rows)


def _made_of(model: Path, images: Sequence[InputImage]) -> dict[str, str]:
    """What tells the model and the images again, wherever copies of them lie: its bytes, and three slices of each."""
    digest = hashlib.blake2b(digest_size=16)
    with model.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    found = {"the model": digest.hexdigest()}
    for image in images:
        digest, depth = hashlib.blake2b(digest_size=16), image.source.shape[0]
        for z in sorted({0, depth // 2, depth - 1}):
            slice_ = np.ascontiguousarray(image.source.read(z, z + 1))
            digest.update(str(slice_.dtype).encode() + slice_.tobytes())
        found[f"the image {image.source.name!r}"] = digest.hexdigest()
    return found


def _refuse_others(folders: Sequence[Path], made_of: Mapping[str, str]) -> None:
    """Raise :class:`RunError` for parts that were computed by another model, or of other images."""
    for folder in folders:
        try:
            there = json.loads(regular(folder / _MADE_OF).read_text(encoding="utf-8"))
            other = sorted(name for name in made_of if there.get(name) != made_of[name])
        except (OSError, ValueError, AttributeError) as error:
            raise RunError(f"{folder / _MADE_OF} cannot be used: {error}", _ANEW) from None
        if other:
            raise RunError(f"The parts in {folder} were made before {' and '.join(other)} changed", _ANEW)


def _refuse_gaps(folders: Sequence[Path], plan: PredictionPlan) -> None:
    gaps = [
        f"slices {layer.own[0]}:{layer.own[1]} of {sample.title!r}"
        for number, sample in enumerate(plan.samples)
        for index, layer in enumerate(sample.layers)
        if not _store_of(folders, number, index).has(index)
    ]
    if gaps:
        more = f" and {len(gaps) - 5} more slabs" if len(gaps) > 5 else ""
        raise RunError(
            f"Parts are missing in {', '.join(map(str, folders))}: {', '.join(gaps[:5])}{more}",
            "Carry out the same predict with their --shard again: it computes only what is missing.",
        )


def _asked(parameters: p.Predict) -> dict[str, Any]:
    """What is asked for, the same for every part; paths hold from any folder."""
    paths = {name: getattr(parameters, name).absolute() for name in ("model", "input", "out")}
    return parameters.model_copy(update=_OWN | paths).model_dump(mode="json")


def _read_asked(folder: Path) -> dict[str, Any]:
    try:
        asked = json.loads(regular(folder / "predict.json").read_text(encoding="utf-8"))
        p.Predict.model_validate(asked)
    except (OSError, ValueError) as error:
        raise RunError(
            f"{folder} holds no part of a prediction: {error}".splitlines()[0],
            "Give the folder OUT.shards that predict --shard made.",
        ) from None
    assert isinstance(asked, dict)
    return asked


def _publish_first(path: Path, text: str) -> None:
    """Write a file whole unless another process has: then the other's stays."""
    temporary = path.with_name(f".{path.name}-{os.getpid()}-{os.urandom(4).hex()}")
    write_text(temporary, text + "\n")
    try:
        with suppress(FileExistsError):
            path.hardlink_to(temporary)
    finally:
        temporary.unlink()
