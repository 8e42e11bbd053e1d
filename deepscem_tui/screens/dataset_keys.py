"""What can be done to the lines of the tree of data sets: keys, and why a key does not fit what is chosen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from textual.binding import Binding

from deepscem_tui.widgets.dataset_tree import Item

__all__ = ["DEEDS", "Deed", "bindings", "refusal"]


@dataclass(frozen=True)
class Deed:
    """Something a key does.

    Args:
        name: Of the method that does it.
        title: In the footer; how a refusal begins.
        text: In a few words.
        needs: What must be chosen.
        broken: Whether it can be done to what is damaged.
    """

    name: str
    keys: str
    title: str
    text: str
    needs: Literal["nothing", "dataset", "sample"] = "nothing"
    broken: bool = False


DEEDS = (  # in the order in which the footer shows them
    Deed("new", "n", "New", "Make a data set"),
    Deed("open", "o", "Open", "Open a data set that lies elsewhere"),
    Deed("add", "a", "Add sample", "Add an image and its labels as a sample", "dataset"),
    Deed("full", "z", "Larger", "Give the slices the whole window; escape comes back", "sample"),
    Deed("predict", "p", "Predict", "Predict the labels with a model", "dataset"),
    Deed("compare", "v", "Compare", "Compare with the true labels of another data set", "sample"),
    Deed("crop", "c", "Crop", "Copy a box of the sample to a new one", "sample"),
    Deed("check", "k", "Check", "Read it through and list what is wrong", "dataset", broken=True),
    Deed(
        "folder",
        "f",
        "Import folder",
        "Add all images of a folder and their labels, to a new data set or the chosen one",
    ),
    Deed("aliases", "l", "Labels", "Give the labels names", "dataset"),
    Deed("rename", "r", "Rename", "Rename the sample or the data set", "dataset", broken=True),
    Deed("remove", "d,delete", "Remove", "Remove the sample for good; asks first", "sample", broken=True),
    Deed("labelled", "b", "Labelled", "Say which part of the sample is labelled: the rest is left out", "sample"),
    Deed("export", "e", "Export", "Write the sample as image files", "sample"),
    Deed("augment", "u", "Augmented", "Draw what augmentation makes of it in training", "dataset"),
    Deed("save", "s", "Save as", "Write it anew to another file", "dataset"),
    Deed("size", "y", "Voxel size", "Say how large the voxels are", "dataset"),
    Deed("split", "x", "Split", "Divide it into data sets to train, validate and test with", "dataset"),
    Deed("distance", "t", "Distances", "Add distance transforms of the labels", "dataset"),
    Deed("objects", "m", "Objects", "Find, number and measure the objects of its predictions or labels", "dataset"),
    Deed("clean", "g", "Clean", "Smooth masks, fill their holes, remove what is too small", "dataset"),
    Deed("convert", "h", "Convert", "Write an image file in another format"),
    Deed("info", "i", "Info", "Say in full what it holds", "dataset", broken=True),
    Deed("close", "w", "Close", "Take it off the list; the file stays", "dataset", broken=True),
    Deed("rescan", "ctrl+r", "Look again", "Look for data sets again; shows closed ones of the folder too"),
)


def bindings() -> list[Binding]:
    """The keys, for the tree."""
    return [Binding(deed.keys, f"screen.deed('{deed.name}')", deed.title, tooltip=deed.text) for deed in DEEDS]


def shown(name: str, item: Item | None) -> bool:
    """Whether the footer shows a key while this is chosen."""
    deed = next(deed for deed in DEEDS if deed.name == name)
    if item is None or item.kind == "folder":
        return deed.needs == "nothing" and name != "full"
    if item.kind == "dataset":
        return deed.needs != "sample"
    return deed.needs == "sample" or name in ("add", "rename", "new", "open")


def refusal(deed: Deed, item: Item | None) -> str:
    """Why something cannot be done to what is chosen; empty if it can."""
    if deed.needs == "nothing":
        return ""
    if item is None or item.dataset is None:
        return f"{deed.title}: choose a data set first" + (" and in it a sample" if deed.needs == "sample" else "")
    name = item.path.name
    of_whole = item.sample is None and deed.name in ("rename", "remove")  # a damaged sample can be renamed, removed
    if item.dataset.problem and (of_whole or not deed.broken):
        return f"{name} cannot be used: it {item.dataset.problem}"
    if deed.needs == "sample" and item.sample is None:
        if not item.dataset.samples:
            return f"{deed.title}: {name} has no sample yet; a adds one"
        return f"{deed.title}: choose a sample of {name} first (right opens it)"
    if item.sample is not None and item.sample.problem and deed.needs == "sample" and not deed.broken:
        return f"Sample {item.sample.name} cannot be used: it {item.sample.problem}"
    if deed.name in ("aliases", "distance", "objects", "clean") and not item.dataset.n_labels:
        return f"{deed.title}: {name} was made for no labels"
    return ""
