"""The action `import-folder`: the images of a folder and their labels become samples, all of them or none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from deepscem_tui.engine import parameters as p
from deepscem_tui.engine import words
from deepscem_tui.engine.context import Context
from deepscem_tui.engine.dataset_actions.adding import Noted, find_grey_values, open_sources, remark, write_sample
from deepscem_tui.engine.dataset_actions.names import create_dataset
from deepscem_tui.engine.dataset_actions.pairing import (
    Pair,
    Pairing,
    Pattern,
    Unpaired,
    image_files,
    like_slices,
    pair_by_patterns,
    pair_by_words,
    pair_stacks_by_words,
    stacks_of,
)
from deepscem_tui.engine.datasets.dataset import ChangedDataset, change_dataset, open_dataset, real_path
from deepscem_tui.engine.datasets.ignoring import mask_file
from deepscem_tui.engine.datasets.tree import member_name
from deepscem_tui.engine.errors import DatasetError, ParameterError, VolumeError
from deepscem_tui.engine.reporting import Part, Reporter
from deepscem_tui.engine.results import Result, Table
from deepscem_tui.engine.sources.normalisation import Greys
from deepscem_tui.engine.system.space import check_room

__all__ = ["import_folder"]

_LISTED = 3  # of what is missing, in a message


def import_folder(parameters: p.ImportFolder, context: Context) -> Result:
    """Add every image of a folder to a data set with the labels that its name leads to: all of them or none.

    Raises:
        ParameterError: a pattern cannot be right, images lack labels, or labels do not fit the data set.
        DataError: a file cannot be read, shapes differ, or a name is taken.
        ResourceError: the disk is full.
        Stopped: on request; the data set is as it was, or is not made.
    """
    noted = Noted(context)
    target = _target(parameters, context)
    plan = _planned(parameters, target)
    blank = [pair.image for pair in plan.pairs if parameters.unpaired == "blank" and _missing(pair, plan.columns)]
    if blank:
        noted.warn(
            f"Blank labels stand for background in training: {words.listed(blank)} must show nothing of what is "
            "missing; else skip them (--unpaired skip)"
        )
    looked = _look(plan, noted, context)
    flat = all(found.shape[:1] == (1,) for found in looked)
    if not parameters.stacks and flat and like_slices([pair.image for pair in plan.pairs]):
        noted.warn("The images are numbered slices, and each becomes a sample; --stacks makes a volume of each folder")
    faults = [*plan.faults, *(found.problem for found in looked if found.problem)]
    what = f"{words.counted(len(plan.samples), 'sample')} with {words.counted(len(plan.names), 'label')}"
    facts = _facts(parameters, plan) | {"new": target is None, "problems": faults}
    if parameters.dry_run:
        new = ", a new data set" if target is None else ""
        text = f"Would add {what} to {parameters.file}{new}"
        if faults:
            text = f"Would refuse to add {what}: {_some(faults)}"
        return Result(text, facts | {"warnings": noted.texts}, _shown(plan, looked), ok=not faults)
    if plan.faults:
        raise ParameterError(_some(plan.faults), _HINT, "unpaired" if plan.samples else "folder")
    if faults:
        raise VolumeError(_some(faults), "Nothing was added. --dry-run lists everything.", "folder")
    check_room({real_path(parameters.file): sum(found.stored for found in looked)})
    greys = _ranges(plan, looked, noted, context)
    with _changed(parameters, plan, target is None, context) as changed:
        foreground = _write(changed, plan, looked, greys, noted, context)
    rows = [
        (name, list(found.shape), ", ".join(f"{label} {share:.1%}" for label, share in shares.items()))
        for (name, shares), found in zip(foreground.items(), looked, strict=True)
    ]
    tables = [Table("samples", ("sample", "shape", "foreground"), rows), _table_of_rest(plan)]
    facts |= {"foreground": foreground, "warnings": noted.texts}
    return Result(f"Added {what} to {parameters.file}", facts, tables)


_HINT = "Nothing was added. --dry-run lists all pairs; --unpaired skip or blank takes what there is."


def _some(faults: Sequence[str]) -> str:
    more = f"; and {len(faults) - _LISTED} more" if len(faults) > _LISTED else ""
    return "; ".join(faults[:_LISTED]) + more


# ------------------------------------------------------------------------------------------------ what is to be done


@dataclass(frozen=True)
class _Target:
    """The data set as it is: names of its samples, how many labels, and their names if they have any."""

    samples: tuple[str, ...]
    n_labels: int
    aliases: tuple[str, ...]
    label_names: tuple[str, ...]

    @property
    def unnamed(self) -> bool:
        """Whether nothing says yet what its labels are: neither names nor samples."""
        return not self.aliases and not self.samples


def _target(parameters: p.ImportFolder, context: Context) -> _Target | None:
    """The data set that samples are added to; None if it is to be made."""
    if not parameters.file.exists():
        _create(parameters, 0, context, dry_run=True)
        return None
    with open_dataset(parameters.file) as dataset:
        return _Target(tuple(dataset.samples), dataset.n_labels, dataset.aliases, dataset.label_names)


def _create(parameters: p.ImportFolder, n_labels: int, context: Context, dry_run: bool = False) -> None:
    name = words.file_name(parameters.file.stem)
    create_dataset(p.CreateDataset(file=parameters.file, name=name, n_labels=n_labels, dry_run=dry_run), context)


@dataclass(frozen=True)
class _Plan:
    """What becomes of the files.

    Args:
        samples: One `add-sample` each.
        renames: Whether the data set gets the names of its labels from this.
        pairs: Of the samples, in the same order; labels by the names that files have.
        columns: These names, in the order of the data set's labels; ``""`` where files tell none.
        names: Of the data set's labels.
        named: Whether they are kept, whatever ``classes`` call them.
        rest: Files that belong to no sample, and why.
        faults: Why all of it is refused; none if it is not.
    """

    samples: tuple[p.AddSample, ...]
    pairs: tuple[Pair, ...]
    columns: tuple[str, ...]
    names: tuple[str, ...]
    named: bool
    renames: bool
    rest: tuple[Unpaired, ...]
    faults: tuple[str, ...]


def _planned(parameters: p.ImportFolder, target: _Target | None) -> _Plan:
    paths = image_files(parameters.folder)
    pairing = _paired(parameters, paths, target)
    if not pairing.pairs:
        what = f"No file in {parameters.folder} is an image by its name"
        raise ParameterError(what, "Say which are with --image-pattern.", "image_pattern")
    if not pairing.names and parameters.unpaired != "blank" and (target is None or target.n_labels):
        raise ParameterError(_no_labels(parameters, paths), _LABELS_HINT, "label_pattern")
    columns = _columns(parameters, pairing, target)
    others = [
        Unpaired(path, f"its label {name!r} is not one of {words.listed(columns)}")
        for pair in pairing.pairs
        for name, path in pair.labels.items()
        if name not in columns
    ]
    half = {pair.image: missing for pair in pairing.pairs if (missing := _missing(pair, columns))}
    kept = [pair for pair in pairing.pairs if pair.image not in half or parameters.unpaired != "skip"]
    rest = [*pairing.unpaired, *others]
    faults: list[str] = []
    if parameters.unpaired == "refuse":
        faults = [f"{image} has no {missing}" for image, missing in half.items()]
        faults += [f"{item.path}: {item.why}" for item in pairing.unpaired]
    elif parameters.unpaired == "skip":
        rest += [Unpaired(image, f"it has no {missing}") for image, missing in half.items()]
    if not kept:
        raise ParameterError("No image has all labels", _HINT, "unpaired")
    if _one_file(parameters) and len(columns) > 1:
        what = (
            f"--classes and --instances boundaries are for one file with all labels, but there are {len(columns)} files"
        )
        raise ParameterError(what, "Choose one with --label-names.", "label_names")
    names = _sample_names(parameters.prefix, [pair.key for pair in kept])
    taken = sorted(set(names) & set(target.samples if target else ()))
    if taken:
        what = f"{parameters.file} has {words.listed(taken)} already"
        raise DatasetError(what, "Give a --prefix for the new ones, if they are not the same.", "prefix")
    shared = {name: getattr(parameters, name) for name in p.SampleOptions.model_fields}
    samples = [
        p.AddSample(
            file=parameters.file,
            name=name,
            image=parameters.folder / pair.image,
            labels=tuple(str(parameters.folder / pair.labels[c]) if c in pair.labels else "" for c in columns),
            ignore_mask=parameters.folder / pair.ignored if pair.ignored else None,
            **shared,
        )
        for name, pair in zip(names, kept, strict=True)
    ]
    renames = target is None or (target.unnamed and not _one_file(parameters))
    label_names = target.label_names if target and not renames else _new_names(parameters, columns)
    named = renames or (target is not None and not target.unnamed)
    return _Plan(tuple(samples), tuple(kept), columns, label_names, named, renames, tuple(rest), tuple(faults))


def _one_file(parameters: p.ImportFolder) -> bool:
    """Whether one file holds all labels of an image."""
    return parameters.classes is not None or parameters.instances == "boundaries"


def _new_names(parameters: p.ImportFolder, columns: Sequence[str]) -> tuple[str, ...]:
    """Names of the labels of a data set that is to be made."""
    if parameters.classes is not None:
        return tuple(dict.fromkeys(name for name, _ in parameters.classes))
    return _named(["", ""] if parameters.instances == "boundaries" else columns)


_LABELS_HINT = (
    "Say how files are called, such as --image-pattern '{name}.tif' and --label-pattern '{name}_{label}.tif'."
)


def _paired(parameters: p.ImportFolder, paths: Sequence[str], target: _Target | None) -> Pairing:
    known = parameters.label_names or (target.aliases if target else ())
    paths = stacks_of(paths) if parameters.stacks else paths
    if parameters.image_pattern is None and parameters.stacks:
        return pair_stacks_by_words(paths, parameters.folder.resolve().name, known)
    if parameters.image_pattern is None:
        return pair_by_words(paths, known)
    label, ignored = parameters.label_pattern, parameters.ignore_pattern
    return pair_by_patterns(
        paths,
        Pattern(parameters.image_pattern, "image_pattern"),
        Pattern(label, "label_pattern") if label else None,
        Pattern(ignored, "ignore_pattern") if ignored else None,
    )


def _no_labels(parameters: p.ImportFolder, paths: Sequence[str]) -> str:
    """Say that no file is a label, and what might be one."""
    if parameters.stacks:
        return f"No folder in {parameters.folder} is a label by its name"
    plain = Pattern("**{name}.*", "image_pattern"), Pattern("**{name}_{label}.*", "label_pattern")
    maybe = next((pair for pair in pair_by_patterns(paths, *plain).pairs if pair.labels), None)
    like = f"; is {next(iter(maybe.labels.values()))} a label of {maybe.image}?" if maybe else ""
    return f"No file in {parameters.folder} is a label by its name{like}"


def _columns(parameters: p.ImportFolder, pairing: Pairing, target: _Target | None) -> tuple[str, ...]:
    """Names of the labels, as the files have them, in the order of the data set's labels.

    Raises:
        ParameterError: they do not fit the data set.
    """
    found = pairing.names
    if parameters.label_names:
        columns: tuple[str, ...] = parameters.label_names
        if found == ("",) and len(columns) == 1:
            columns = ("",)
    elif target is not None and target.aliases and found != ("",) and not _one_file(parameters):
        columns = target.aliases
    elif not found:
        columns = _named([""] * (target.n_labels if target else 0))
    else:
        columns = found
    if "" in found and len(found) > 1:
        what = f"Some label files tell a label's name ({words.listed(name for name in found if name)}), others none"
        raise ParameterError(what, _LABELS_HINT, "label_pattern")
    missing = [name for name in columns if found and name not in found]
    if len(missing) == len(columns) and columns:
        what = f"No file is a label {words.listed(missing)}: there are {words.listed(found)}"
        raise ParameterError(what, "Say which to take, in order, with --label-names.", "label_names")
    if target is not None and len(columns) != target.n_labels and not _one_file(parameters):
        has = f"{parameters.file} has {words.counted(target.n_labels, 'label')} a sample"
        names = f" ({words.listed(columns)})" if columns != ("",) else ""
        what = f"{has}, but {words.counted(len(columns), 'label')} were found{names}"
        raise ParameterError(what, "Say which to take, in order, with --label-names.", "label_names")
    if target is not None and not target.aliases and target.samples and any(columns):
        _check_said(parameters, columns)
    return columns


def _check_said(parameters: p.ImportFolder, columns: Sequence[str]) -> None:
    """Refuse to guess which label of samples without names is which of the files."""
    if parameters.label_names or _one_file(parameters):
        return
    order = ", ".join(f"{name!r} -> {member_name('label', index)}" for index, name in enumerate(columns))
    what = f"The labels of {parameters.file} have no names, so nothing says which is which: {order}?"
    hint = f"If so: --label-names {','.join(columns)}; else another order, or name the labels first with set-aliases."
    raise ParameterError(what, hint, "label_names")


def _named(columns: Sequence[str]) -> tuple[str, ...]:
    """Names of labels, those of DeepSCEM where there are none."""
    return tuple(name or member_name("label", index) for index, name in enumerate(columns))


def _missing(pair: Pair, columns: Sequence[str]) -> str:
    """What an image lacks, in words."""
    missing = [name for name in columns if name not in pair.labels]
    if not missing:
        return ""
    return f"label {words.listed(missing)}" if any(missing) and len(missing) < len(columns) else "label"


def _sample_names(prefix: str, keys: Sequence[str]) -> list[str]:
    """Safe names that differ: the last part of a key where that is enough, else all of it."""
    last = Counter(PurePosixPath(key).name for key in keys)
    names: list[str] = []
    for key in keys:
        part = PurePosixPath(key).name
        wanted = words.file_name(prefix + (part if last[part] == 1 else key.replace("/", "_")))
        name, number = wanted, 1
        while name in names:
            number += 1
            name = f"{wanted}_{number}"
        names.append(name)
    return names


# ------------------------------------------------------------------------------------------------ doing it


@dataclass(frozen=True)
class _Looked:
    """What a look at a sample's files has shown.

    Args:
        stored: Bytes that the image will take.
        image: Bytes of the image's file, uncompressed.
        all: Bytes of all files.
        problem: Why it cannot be added; empty if it can.
    """

    shape: tuple[int, ...] = ()
    stored: int = 0
    image: int = 0
    all: int = 0
    problem: str = ""


def _look(plan: _Plan, noted: Noted, context: Context) -> list[_Looked]:
    """Open the files of every sample, and close them again: nothing but their heads is read."""
    looked = []
    for number, sample in enumerate(plan.samples):
        context.stop.check()
        context.report.progress("Looking at files", number, len(plan.samples), "samples")
        with ExitStack() as files:
            try:
                sources = open_sources(sample, plan.names, plan.named, files, noted, context)
            except (VolumeError, ParameterError) as error:
                looked.append(_Looked(problem=error.what))
                continue
            looked.append(_Looked(sources.image.shape, sources.image_bytes, sources.image.nbytes, sources.nbytes))
    context.report.progress("Looking at files", len(plan.samples), len(plan.samples), "samples")
    return looked


def _ranges(plan: _Plan, looked: Sequence[_Looked], noted: Noted, context: Context) -> list[Greys]:
    """The range of every image: in a first pass, before anything is written."""
    before, greys = 0, []
    total = sum(found.image for found in looked)
    for sample, found in zip(plan.samples, looked, strict=True):
        report = Part(context.report, "Range of images", before, found.image, total, "B")
        with ExitStack() as files:
            sources = open_sources(sample, plan.names, plan.named, files, noted, Context(stop=context.stop))
            greys.append(find_grey_values(sample, sources.image, noted, Context(report, context.stop)))
        before += found.image
    return greys


@contextmanager
def _changed(parameters: p.ImportFolder, plan: _Plan, new: bool, context: Context) -> Iterator[ChangedDataset]:
    """The data set, to be changed; one that is made for this is removed again if the change fails."""
    if new:
        _create(parameters, len(plan.names), Context(Reporter(), context.stop))
    try:
        with change_dataset(parameters.file) as changed:
            if plan.renames and plan.names != _named([""] * len(plan.names)):
                changed.set_aliases(plan.names)
            yield changed
    except BaseException:
        if new:
            for path in (parameters.file, mask_file(parameters.file)):
                path.unlink(missing_ok=True)
        raise


def _write(
    changed: ChangedDataset,
    plan: _Plan,
    looked: Sequence[_Looked],
    greys: Sequence[Greys],
    noted: Noted,
    context: Context,
) -> dict[str, dict[str, float]]:
    """The second pass; the share of the labelled voxels that each label has, by sample."""
    before, shares, ignores = 0, {}, False
    total = sum(found.all for found in looked)
    for sample, found, grey in zip(plan.samples, looked, greys, strict=True):
        part = Context(Part(context.report, "Writing samples", before, found.all, total, "B"), context.stop)
        with ExitStack() as files:
            sources = open_sources(sample, plan.names, plan.named, files, noted, part)
            written = write_sample(changed, sample, sources, grey, part)
        remark(sample, sources, written, noted, context)
        if written.nothing_shown(sample):
            noted.warn(
                f"No slice of {sample.name!r} ({sample.image}) shows a label: all of it is left out as not labelled"
            )
        ignores = ignores or sources.ignores_any
        shares[sample.name] = dict(zip(sources.labels.names, written.shares, strict=True))
        before += found.all
    if plan.samples[0].ignore_value is not None and not ignores:
        noted.warn(f"No label file has the value {plan.samples[0].ignore_value} of --ignore-value")
    return shares


# ------------------------------------------------------------------------------------------------ showing it


def _facts(parameters: p.ImportFolder, plan: _Plan) -> dict[str, Any]:
    files = {
        sample.name: {
            "image": pair.image,
            "labels": [pair.labels.get(column) for column in plan.columns],
            "ignore_mask": pair.ignored,
        }
        for sample, pair in zip(plan.samples, plan.pairs, strict=True)
    }
    return {
        "file": str(parameters.file),
        "folder": str(parameters.folder),
        "label_names": list(plan.names),
        "files": files,
    }


def _shown(plan: _Plan, looked: Sequence[_Looked]) -> list[Table]:
    rows = []
    for sample, pair, found in zip(plan.samples, plan.pairs, looked, strict=True):
        labels = [pair.labels.get(column, "blank") for column in plan.columns]
        if any(plan.columns):
            labels = [f"{name}: {path}" for name, path in zip(plan.columns, labels, strict=True)]
        labels += [f"not labelled: {pair.ignored}"] if pair.ignored else []
        rows.append((sample.name, pair.image, ", ".join(labels), list(found.shape) or None))
    problems = [(pair.image, found.problem) for pair, found in zip(plan.pairs, looked, strict=True) if found.problem]
    return [
        Table("pairs", ("sample", "image", "labels", "shape"), rows),
        _table_of_rest(plan),
        Table("unfit", ("image", "problem"), problems),
    ]


def _table_of_rest(plan: _Plan) -> Table:
    return Table("left_out", ("file", "why"), [(item.path, item.why) for item in plan.rest])
