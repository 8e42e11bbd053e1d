"""What there is to know about a line of the tree of data sets, in a few short lines."""

from __future__ import annotations

from pathlib import Path

from deepscem_tui.engine import words
from deepscem_tui.engine.catalogue import Catalogue, DatasetEntry, SampleEntry
from deepscem_tui.widgets.dataset_tree import Item

__all__ = ["facts", "references"]

_NOUNS = {"label": "label", "prediction": "prediction", "dt": "distance transform"}


def facts(item: Item | None, reference: Path | None = None) -> list[str]:
    """Lines about what is chosen, the most telling first.

    Args:
        reference: What the sample is compared with.
    """
    if item is None:
        return []
    if item.kind == "folder":
        return ["opened in this session" if item.elsewhere else f"folder {item.path}"]
    assert item.dataset is not None
    if item.member is not None and item.sample is not None:
        member = item.member
        lines = [f"{member.name}, {member.dtype}", *_size(item.sample), f"{words.amount(member.bytes, 'B')} stored"]
    elif item.sample is not None:
        lines = _of_sample(item.sample)
    else:
        lines = _of_dataset(item.dataset)
    if item.dataset.busy:
        lines.insert(0, f"It {item.dataset.busy}")
    if reference is not None and item.sample is not None:
        lines.append(f"compared with {reference.name}")
    return lines


def references(catalogue: Catalogue, path: Path, sample: SampleEntry) -> list[DatasetEntry]:
    """Data sets with labels for the sample of that name and shape, those of the same folder first."""
    found = [
        dataset
        for dataset in (*catalogue.datasets, *catalogue.elsewhere)
        if dataset.path != path and (other := dataset.sample(sample.name)) is not None
        if other.of_kind("label") and other.shape == sample.shape
    ]
    return sorted(found, key=lambda dataset: dataset.path.parent != path.parent)


def _of_dataset(dataset: DatasetEntry) -> list[str]:
    if dataset.problem:
        return [f"It {dataset.problem}"]
    count = len(dataset.samples) + dataset.more
    lines = [f"{words.counted(count, 'sample')}, {words.counted(dataset.n_labels, 'label')}"]
    if dataset.aliases:
        lines.append(", ".join(dataset.aliases))
    if dataset.name != dataset.path.stem:
        lines.append(f"name: {dataset.name}")
    lines.append(f"{words.amount(dataset.bytes, 'B')} on disk")
    if dataset.more:
        lines.append(f"the first {len(dataset.samples)} samples are listed")
    if not count:
        lines.append("a adds a sample")
    return lines


def _of_sample(sample: SampleEntry) -> list[str]:
    if sample.problem:
        return [f"It {sample.problem}"]
    lines = _size(sample)
    if sample.voxel_size:
        lines.append(f"voxels {words.sizes(sample.voxel_size)} {sample.voxel_unit}".rstrip())
    if sample.labelled:
        lines.append(f"labelled: {sample.labelled}")
    held = [f"image {member.dtype}" for member in sample.of_kind("image")]
    held += [words.counted(len(found), noun) for kind, noun in _NOUNS.items() if (found := sample.of_kind(kind))]
    return [*lines, ", ".join(held), f"{words.amount(sum(member.bytes for member in sample.members), 'B')} stored"]


def _size(sample: SampleEntry) -> list[str]:
    return [f"{words.sizes(sample.shape)} (Z, Y, X)"] if sample.shape else []
