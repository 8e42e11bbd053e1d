"""The action `check-dataset`: a data set read through, with everything wrong or unusual in it as a table."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from math import prod
from typing import Literal

import numpy as np
from pydantic import TypeAdapter, ValidationError

from deepscem_tui.engine import parameters as p
from deepscem_tui.engine import words
from deepscem_tui.engine.context import Context
from deepscem_tui.engine.datasets import tree
from deepscem_tui.engine.datasets.dataset import Dataset, Member, open_dataset, real_path
from deepscem_tui.engine.datasets.ignoring import Ignored, ignored_in, mask_file, mask_id
from deepscem_tui.engine.datasets.journal import is_journalled
from deepscem_tui.engine.datasets.tree import Unusable, member_kind, member_name
from deepscem_tui.engine.errors import DatasetError
from deepscem_tui.engine.results import Result, Table
from deepscem_tui.engine.slabs import slab_depth
from deepscem_tui.engine.system.lock import lock_path

__all__ = ["check_dataset"]

Severity = Literal["error", "warning", "note"]
_WASTE = 0.1  # share of the file that is worth a note


@dataclass
class _Findings:
    """What was found, row by row."""

    problems: list[tuple[str, str, str, Severity]] = field(default_factory=list)
    fractions: list[tuple[str, str, list[int], float]] = field(default_factory=list)
    images: dict[int, str] = field(default_factory=dict)  # samples by the checksum of their image
    stored: int = 0

    def add(self, severity: Severity, text: str, sample: str = "", member: str = "") -> None:
        self.problems.append((_shown(sample), _shown(member), _shown(text), severity))


def check_dataset(parameters: p.CheckDataset, context: Context) -> Result:
    """Read a data set through: structure, types, values, and what DeepSCEM would stumble over.

    Returns:
        Tables of problems and of label fractions; not ``ok`` if anything is an error.

    Raises:
        DatasetError: it cannot be opened at all.
        LockedError: another process is changing it.
        Stopped: on request.
    """
    findings = _Findings()
    path = real_path(parameters.file)
    journalled = path.exists() and is_journalled(path)
    with open_dataset(parameters.file) as dataset:
        if journalled:
            findings.add("note", "a change that broke off was undone")
        if lock_path(path).exists():
            findings.add("note", f"{lock_path(path).name} was left by a process that is dead; the next change takes it")
        _check_root(dataset, findings)
        names = list(dataset.samples)
        total, done = sum(_size(dataset, name) for name in names), 0
        for name in names:
            for count in _check_sample(dataset, name, findings):
                context.stop.check()
                done += count
                context.report.progress(f"Checking {parameters.file.name}", done, max(done, total), "B")
        _check_masks(dataset, findings)
        size = path.stat().st_size
        if size - findings.stored > _WASTE * size + 2**20:
            text = f"about {size - findings.stored:,} of {size:,} bytes are unused; save-dataset frees them"
            findings.add("note", text)
    counts = {kind: sum(row[3] == kind for row in findings.problems) for kind in ("error", "warning", "note")}
    tables = (
        Table("problems", ("sample", "member", "problem", "severity"), findings.problems),
        Table("labels", ("sample", "label", "shape", "foreground"), findings.fractions),
    )
    found = ", ".join(f"{words.counted(count, kind)}" for kind, count in counts.items() if count)
    summary = f"Checked {parameters.file}, {words.counted(len(names), 'sample')}: {found or 'nothing wrong'}"
    facts = {"file": str(parameters.file), "samples": len(names), **{f"{kind}s": n for kind, n in counts.items()}}
    return Result(summary, facts, tables, ok=not counts["error"])


def _shown(text: str) -> str:
    """Text that does nothing to a terminal: names in a file may hold anything."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)


def _size(dataset: Dataset, name: str) -> int:
    try:
        return sum(prod(member.shape) * member.dtype.itemsize for member in dataset.sample(name).members.values())
    except DatasetError:
        return 0


def _name_problem(name: str) -> str:
    try:
        TypeAdapter(p.Name).validate_python(name)
    except ValidationError as error:
        return str(error.errors()[0]["msg"]).removeprefix("Value error, ")
    return ""


def _check_root(dataset: Dataset, findings: _Findings) -> None:
    if problem := _name_problem(dataset.name):
        findings.add("warning", f"the name of the data set {problem}")
    for alias in dataset.aliases:
        if problem := _name_problem(alias):
            findings.add("warning", f"the alias {alias!r} {problem}")
    if len(set(dataset.aliases)) < len(dataset.aliases):
        findings.add("warning", "two labels have the same alias")
    if not list(dataset.samples):
        findings.add("note", "there are no samples")


def _check_sample(dataset: Dataset, name: str, findings: _Findings) -> Iterator[int]:
    """Look at a sample and read its arrays; the bytes that were read, as they are."""
    if problem := _name_problem(name):
        findings.add("warning", f"the name {problem}", name)
    try:
        group, shape = tree.open_sample(dataset.file, name)
        found = tree.names(group)
    except Unusable as error:
        findings.add("error", str(error), name)
        return
    _check_members(dataset, name, found, findings)
    ignored = _check_labelled(dataset, name, findings)
    for member in found:
        kind = member_kind(member)
        if kind is None:
            continue
        try:
            opened = tree.open_member(group, member, shape)
        except Unusable as error:
            findings.add("error", str(error), name, member)
            continue
        array = Member(opened, member)
        findings.stored += array.stored_bytes
        yield from _check_values(dataset, name, member, kind, array, ignored, findings)


def _check_masks(dataset: Dataset, findings: _Findings) -> None:
    """Whether there are masks that belong to no sample."""
    file = mask_file(dataset.path)
    if not file.exists():
        return
    used = set()
    for name in dataset.samples:
        with suppress(DatasetError):  # told of its members
            used.add(mask_id(dataset.samples[name]))
    try:
        with open_dataset(file) as masks:
            unused = set(masks.samples) - used
    except DatasetError as error:
        findings.add("error", error.what)
        return
    if unused:
        text = f"{file.name} has {words.counted(len(unused), 'mask')} of no sample; save-dataset drops them"
        findings.add("note", text)


def _check_labelled(dataset: Dataset, name: str, findings: _Findings) -> Ignored | None:
    """What of a sample is not labelled, if that can be told."""
    try:
        sample = dataset.samples[name]
    except DatasetError:  # told of its members
        return None
    try:
        ignored = ignored_in(sample)
        if ignored is None:
            return None
        ignored.check()
    except DatasetError as error:
        findings.add("error", error.what, name)
        return None
    findings.add("note", f"is labelled in part: {ignored}", name)
    return ignored


def _check_members(dataset: Dataset, name: str, found: list[str], findings: _Findings) -> None:
    """Which members there are, and which there should be."""
    kinds = [kind for kind in map(member_kind, found) if kind is not None]
    labels = sorted(index for kind, index in kinds if kind == "label")
    predictions = sorted(index for kind, index in kinds if kind == "prediction")
    wanted = range(dataset.n_labels)
    for kind, indices, needed in (
        ("label", labels, bool(labels or not predictions)),
        ("prediction", predictions, bool(predictions)),
    ):
        for index in set(wanted) - set(indices) if needed else ():
            findings.add("error", f"there is no {member_name(kind, index)}", name)
        for index in set(indices) - set(wanted):
            text = f"the data set has {words.counted(dataset.n_labels, 'label')} a sample only"
            findings.add("error", text, name, member_name(kind, index))
    if "image" not in found:
        findings.add("error" if labels or not predictions else "warning", "there is no image", name)
    if labels and predictions:
        findings.add("warning", "there are labels and predictions: DeepSCEM cannot train on it", name)
    for member in found:
        known = member_kind(member)
        if known is None:
            findings.add("warning", "is nothing that DeepSCEM knows: it cannot train on it", name, member)
        elif known[0] == "dt":
            findings.add("note", "DeepSCEM cannot train on a data set with distance transforms", name, member)


def _check_values(
    dataset: Dataset,
    name: str,
    member: str,
    kind: tuple[str, int],
    array: Member,
    ignored: Ignored | None,
    findings: _Findings,
) -> Iterator[int]:
    """Read an array slab by slab."""
    low, high, positive, not_finite, check = np.inf, -np.inf, 0, 0, 0
    unreadable: list[str] = []
    reason = ""
    step = slab_depth(prod(array.shape[1:]) * array.dtype.itemsize, array.depth)
    for z in range(0, array.shape[0], step):
        end = min(z + step, array.shape[0])
        try:
            slab = array[z:end]
        except DatasetError as error:
            unreadable.append(f"{z}:{end}")
            reason = error.what
            continue
        yield slab.nbytes
        if slab.dtype.kind == "f":
            slab = slab.astype(np.float32, copy=False)  # float16 is slow to compute with
            finite = np.isfinite(slab)
            finite = slab if finite.all() else slab[finite]
            not_finite += slab.size - finite.size
        else:
            finite = slab.view(np.uint8)
            counted = slab if ignored is None or kind[0] != "label" else (slab != 0) & (ignored[z:end] == 0)
            positive += int(np.count_nonzero(counted))
        if finite.size:
            low, high = min(low, float(finite.min())), max(high, float(finite.max()))
        if kind[0] == "image":
            for plane in slab:
                check = zlib.crc32(plane.data, check)
    if unreadable:
        findings.add("error", f"slices {', '.join(unreadable)} cannot be read: {reason}", name, member)
        return
    if not_finite:
        findings.add("error", f"{not_finite} voxels are NaN or infinite", name, member)
    if kind[0] == "image":
        _check_image(name, low, high, hash((array.shape, check)), findings)
    elif kind[0] != "dt" and (high > 1 or low < 0):
        # Networks with linear or tanh outputs predict whatever they like.
        severity: Severity = "warning" if kind[0] == "prediction" and array.dtype.kind == "f" else "error"
        findings.add(severity, f"values go from {low:g} to {high:g}, not from 0 to 1", name, member)
    if kind[0] == "label":
        label = dataset.label_names[kind[1]] if kind[1] < dataset.n_labels else member
        share = positive / max(1, prod(array.shape) if ignored is None else ignored.annotated)
        findings.fractions.append((_shown(name), _shown(label), list(array.shape), share))


def _check_image(name: str, low: float, high: float, identity: int, findings: _Findings) -> None:
    if low < 0 or high > 1:
        findings.add("error", f"values go from {low:g} to {high:g}, not from 0 to 1", name, "image")
    if low == high:
        findings.add("warning", f"all voxels are {low:g}", name, "image")
    elif identity in findings.images:
        findings.add("warning", f"is the same image as that of {findings.images[identity]!r}", name, "image")
    findings.images.setdefault(identity, name)
