"""Which files of a folder are images and which are their labels, told by their names alone.

Names are taken apart in two ways. By words: a folder called ``labels`` or ``masks``, a part of a name such as ``mask``
or ``seg`` make a file a label, and what is left of the name says of which image. Or by a pattern that is given, such as
``{name}_{label}.tif``, in which ``{name}`` is what image and labels have in common.
"""

from __future__ import annotations

import os
import re
import shlex
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from deepscem_tui.engine import words
from deepscem_tui.engine.errors import ParameterError, VolumeError
from deepscem_tui.engine.formats import FORMATS, image_in, stem_of

__all__ = [
    "Pair",
    "Pairing",
    "Pattern",
    "Unpaired",
    "image_files",
    "like_slices",
    "pair_by_patterns",
    "pair_by_words",
    "pair_stacks_by_words",
    "stacks_of",
]

_IMAGE_WORDS = {
    "image", "images", "img", "imgs", "im", "raw", "em", "grey", "gray", "imagestr", "imagests", "train_images",
    "volume", "volumes",
}  # fmt: skip
_LABEL_WORDS = {
    "label", "labels", "labelstr", "mask", "masks", "seg", "segs", "segmentation", "segmentations", "gt", "truth",
    "groundtruth", "ground_truth", "annotation", "annotations", "target", "targets", "train_labels", "train_masks",
    "labelfield", "labelfields", "classes",
}  # fmt: skip
_IGNORED = ("not_labelled", "ignore")  # what a mask of where nothing is labelled is called, as if it were a label
_STACK = "slices"  # stands for those in a folder
_FEWEST_SLICES = 8  # that look like a volume
_SEPARATORS = "_-. "
_CHANNELLED = ("imagestr", "imagests")  # folders of nnU-Net, whose images' names end with the number of a channel
_LEADING = re.compile(rf"([A-Za-z]+)(?:[{re.escape(_SEPARATORS)}]|(?=\d))(.+)")
_MOST_FILES = 100_000


@dataclass(frozen=True)
class Pair:
    """An image and its label files, all relative to the folder, with ``/``.

    Args:
        key: What their names have in common.
        labels: By the label's name; ``""`` where names tell none.
        ignored: The mask of where nothing is labelled; None if there is none.
    """

    key: str
    image: str
    labels: Mapping[str, str]
    ignored: str | None = None


@dataclass(frozen=True)
class Unpaired:
    """A file that belongs to no pair, and why."""

    path: str
    why: str


@dataclass(frozen=True)
class Pairing:
    """What was found.

    Args:
        pairs: Images in the order of their names, those without labels too.
        names: Of all labels that any image has.
        unpaired: The other files.
    """

    pairs: tuple[Pair, ...]
    names: tuple[str, ...]
    unpaired: tuple[Unpaired, ...]


def image_files(folder: Path) -> list[str]:
    """The image files and stores in a folder and the folders in it, relative, in the order of their names.

    Hidden ones are left out.

    Raises:
        VolumeError: the folder does not exist or cannot be listed, has no image file, or far too many.
    """
    if not folder.is_dir():
        raise VolumeError(f"There is no folder {folder}", "Check its name.", "folder")

    def refused(error: OSError) -> None:
        raise VolumeError(
            f"{error.filename} cannot be listed: {error.strerror or error}", "Check the folder.", "folder"
        )

    found, arrays = [], ""
    for where, folders, names in os.walk(folder, onerror=refused):
        inside = Path(where).relative_to(folder)
        stores = {name for name in folders if image_in(Path(where), name, is_folder=True)}
        folders[:] = [name for name in folders if not name.startswith(".") and name not in stores]
        for name in sorted((*stores, *names)):
            place = None if name.startswith(".") else image_in(Path(where), name, name in stores)
            if place is None or place.format is None:
                continue
            if place.format.inside == "must":
                arrays = arrays or (inside / name).as_posix()
            else:
                found.append((inside / name).as_posix())
        if len(found) > _MOST_FILES:
            raise VolumeError(f"{folder} has more than {_MOST_FILES:,} image files", "Give a smaller folder.", "folder")
    if not found and arrays:
        what = f"{folder} has no image file of which the name says enough: in {arrays} an array has to be named"
        each = shlex.quote(f"{folder / arrays}:/ARRAY")
        raise VolumeError(what, f"Add each by itself: deepscem-tui run add-sample FILE NAME {each}", "folder")
    if not found:
        ends = [known.suffixes[0] for known in FORMATS if known.reader and known.inside != "must"]
        raise VolumeError(f"{folder} has no image file ({', '.join(ends)})", "Give the folder of the images.", "folder")
    return sorted(found, key=words.natural)


# ------------------------------------------------------------------------------------------------ by words


@dataclass(frozen=True)
class _Read:
    """A name taken apart.

    Args:
        folders: Without those that say what their files are; with a ``/`` at the end if there are any.
        stem: The file's name without its end.
        label: Name of the label, as the file's name tells it; None for an image.
        short: What is left of ``stem`` without the words that say what it is.
        inside: The folders between that of the labels and the file; None if no folder says that it is a label. They
            are names of labels, or folders that the images lie in, too.
    """

    path: str
    folders: str
    stem: str
    short: str
    label: str | None
    inside: tuple[str, ...] | None = None

    @property
    def key(self) -> str:
        return self.folders + (self.short if self.inside is None else self.stem)

    def places(self) -> Iterator[tuple[str, str]]:
        """What the folders may mean: those that the image lies in, and the label's name. First with the shortest."""
        inside = self.inside or ()
        for length in range(len(inside) + 1):
            for start in range(len(inside) - length + 1) if length else (0,):
                shared = inside[:start] + inside[start + length :]
                yield self.folders + "".join(f"{name}/" for name in shared), "_".join(inside[start : start + length])


def stacks_of(paths: Sequence[str]) -> list[str]:
    """The folders of files, relative, in the same order."""
    return list(dict.fromkeys(str(PurePosixPath(path).parent) for path in paths))


def like_slices(images: Sequence[str]) -> bool:
    """Whether files are numbered without gaps, in every folder: as slices of volumes are, and many other images."""
    numbers: dict[tuple[str, str], list[int]] = defaultdict(list)
    for path in images:
        found = re.fullmatch(r"(.*?)(\d+)(\D*)", path)
        if found is None:
            return False
        numbers[found[1], found[3]].append(int(found[2]))
    return all(len(each) >= _FEWEST_SLICES and max(each) - min(each) + 1 == len(set(each)) for each in numbers.values())


def pair_stacks_by_words(stacks: Sequence[str], folder: str, names: Collection[str] = ()) -> Pairing:
    """Tell folders of slices apart, each a volume: by words in the names of the folders alone.

    Args:
        stacks: Relative to the folder, with ``/``.
        folder: Its own name, for a volume that lies in it, or in a folder that says no more than that it is an image.
        names: As for :func:`pair_by_words`.
    """
    found = pair_by_words([f"{stack}/{_STACK}" for stack in stacks], names)

    def shown(path: str) -> str:
        return path.removesuffix(f"/{_STACK}")

    pairs = [
        Pair(
            key=folder if pair.key == _STACK else shown(pair.key),
            image=shown(pair.image),
            labels={name: shown(path) for name, path in pair.labels.items()},
            ignored=shown(pair.ignored) if pair.ignored else None,
        )
        for pair in found.pairs
    ]
    return Pairing(tuple(pairs), found.names, tuple(Unpaired(shown(item.path), item.why) for item in found.unpaired))


def pair_by_words(paths: Sequence[str], names: Collection[str] = ()) -> Pairing:
    """Tell images and labels apart by words in their names and folders.

    Args:
        paths: Relative to the folder, with ``/``.
        names: Of labels that are known: a name that ends with one of them is a label's, too.
    """
    read = [_read(path, names) for path in paths]
    images: dict[str, str] = {}
    unpaired: list[Unpaired] = []
    known: dict[str, str] = {}  # key of the image by each of its names
    for entry in read:
        if entry.label is None and entry.key in images:
            unpaired.append(_twice(entry.path, images[entry.key]))
        elif entry.label is None:
            images[entry.key] = entry.path
            for name in (entry.key, entry.folders + entry.stem):
                known.setdefault(name, entry.key)
    labels: list[tuple[str, str, str]] = []  # key of the image, name of the label, path
    for entry in read:
        if entry.label is None:
            continue
        found = _belonging(entry, known)
        if found is not None:
            labels.append((*found, entry.path))
        else:
            unpaired.append(Unpaired(entry.path, f"it is a label by its name, and no image is called {entry.key!r}"))
    return _joined(images, labels, unpaired)


def _read(path: str, names: Collection[str]) -> _Read:
    kept: list[str] = []
    inside: list[str] = []  # folders below one of labels: a label's name each
    is_label = is_image = False
    for folder in PurePosixPath(path).parent.parts:
        if folder.lower() in _LABEL_WORDS:
            is_label = True
        elif folder.lower() in _IGNORED:
            is_label = True
            inside.append(folder.lower())
        elif is_label:
            inside.append(folder)
        elif folder.lower() in _IMAGE_WORDS:
            is_image = True
        else:
            kept.append(folder)
    stem = stem_of(Path(path))
    short, label = _of_stem(stem, names)
    folders = "".join(f"{folder}/" for folder in kept)
    if is_label:
        return _Read(path, folders, stem, short, label or "", tuple(inside))
    if is_image:  # the folder knows better than a word in the name
        short, label = (short if label is None else stem), None
        if PurePosixPath(path).parts[-2].lower() in _CHANNELLED:
            short = short.removesuffix("_0000")
    return _Read(path, folders, stem, short, label)


def _of_stem(stem: str, names: Collection[str]) -> tuple[str, str | None]:
    """What is left of a name without the word that says what it is, and the label's name; None for no label."""
    pieces = re.split(f"([{re.escape(_SEPARATORS)}])", stem)
    parts = pieces[::2]
    for index in range(len(parts) - 1, 0, -1):
        if parts[index].lower() in _LABEL_WORDS:
            return "".join(pieces[: 2 * index - 1]), "".join(pieces[2 * index + 2 :])
    for name in sorted((*names, *_IGNORED), key=len, reverse=True):
        rest = stem[: -len(name)] if name and stem.lower().endswith(name.lower()) else ""
        if len(rest) > 1 and rest[-1] in _SEPARATORS:
            return rest[:-1], name
    leading = _LEADING.fullmatch(stem)
    if leading and leading[1].lower() in _LABEL_WORDS:
        return leading[2], ""
    if leading and leading[1].lower() in _IMAGE_WORDS:
        return leading[2], None
    if len(parts) > 1 and parts[-1].lower() in _IMAGE_WORDS:
        return "".join(pieces[:-2]), None
    return stem, None


def _belonging(entry: _Read, known: Mapping[str, str]) -> tuple[str, str] | None:
    """Key of the image that a label's file belongs to, and the label's name; None if there is no such image."""
    label = entry.label or ""
    if entry.inside is None:
        return (known[entry.key], label) if entry.key in known else None
    for folders, below in entry.places():
        if folders + entry.stem in known:
            return known[folders + entry.stem], below
        if folders + entry.short in known:
            return known[folders + entry.short], "_".join(filter(None, (below, label)))
    for folders, below in entry.places():
        whole = folders + entry.stem
        longest = max((name for name in known if _goes_on(whole, name)), key=len, default=None)
        if longest is not None:
            return known[longest], "_".join(filter(None, (below, whole[len(longest) + 1 :])))
    return None


def _goes_on(whole: str, name: str) -> bool:
    """Whether something follows a name after a separator."""
    return whole.startswith(name) and len(whole) > len(name) + 1 and whole[len(name)] in _SEPARATORS


# ------------------------------------------------------------------------------------------------ by patterns


class Pattern:
    """A pattern of relative paths.

    ``{name}`` and ``{label}`` capture; ``*`` and ``?`` do not cross a ``/``, ``**`` does.

    Attributes:
        text: As it was given.
        has_label: Whether it tells labels' names.
    """

    def __init__(self, text: str, parameter: str) -> None:
        """Raises :class:`ParameterError` about a parameter if there is no ``{name}`` in it, or something else."""
        found = re.findall(r"\{(.*?)\}", text)
        strange = sorted(set(found) - {"name", "label"})
        if strange or "name" not in found:
            what = f"has {{{strange[0]}}}" if strange else "lacks {name}"
            hint = "{name} is what image and labels have in common, {label} a label's name, as in {name}_{label}.tif."
            raise ParameterError(f"The pattern {text!r} {what}", hint, parameter)
        self.text, self.has_label = text, "label" in found

    def matcher(self, names: Collection[str] | None = None) -> Callable[[str], tuple[str, str] | None]:
        """A function that says what ``{name}`` and ``{label}`` (else "") are in a path; None if it does not match.

        Args:
            names: What ``{name}`` may be, the longest preferred; anything if None.
        """
        name = "[^/]+" if names is None else "|".join(map(re.escape, sorted(names, key=len, reverse=True)))
        captures = {"{name}": f"(?P<name>{name})", "{label}": "(?P<label>[^/]+)"}
        wild = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
        regex = ""
        for piece in re.split(r"(\{name\}|\{label\}|\*\*/?|\*|\?)", self.text):
            if piece in captures and captures[piece] in regex:
                regex += f"(?P={piece[1:-1]})"
            else:
                regex += captures.get(piece) or wild.get(piece) or re.escape(piece)
        compiled = re.compile(regex)

        def match(path: str) -> tuple[str, str] | None:
            found = compiled.fullmatch(path)
            return None if found is None else (found["name"], found["label"] if self.has_label else "")

        return match


def pair_by_patterns(
    paths: Sequence[str], image: Pattern, label: Pattern | None, ignored: Pattern | None = None
) -> Pairing:
    """Tell images, labels and masks of what is not labelled apart by patterns; what matches none is left out silently.

    A label's file may match both, as ``x_mito.tif`` does ``{name}.tif``: it is a label where there is an image ``x``.
    """
    of_image = image.matcher()
    as_images = {path: found[0] for path in paths if (found := of_image(path))}
    labels: list[tuple[str, str, str]] = []
    unpaired: list[Unpaired] = []
    left = list(paths)
    for pattern, called in ((ignored, _IGNORED[0]), (label, None)):
        if pattern is None or not as_images:
            continue
        of_known, of_any = pattern.matcher(set(as_images.values())), pattern.matcher()
        paths, left = left, []
        for path in paths:
            known = of_known(path)
            if known is not None and as_images.get(path) != known[0]:
                labels.append((known[0], called or known[1], path))
                continue
            left.append(path)
            if path not in as_images and (found := of_any(path)):
                unpaired.append(Unpaired(path, f"it matches {pattern.text}, and no image is called {found[0]!r}"))
    images: dict[str, str] = {}
    of_labels = {path for _, _, path in labels}
    for path, key in as_images.items():
        if path in of_labels:
            continue
        if key in images:
            unpaired.append(_twice(path, images[key]))
        images.setdefault(key, path)
    lost = [item for item in labels if item[0] not in images]
    unpaired += [Unpaired(path, f"it is a label of {key!r}, which is a label itself") for key, _, path in lost]
    return _joined(images, [item for item in labels if item[0] in images], unpaired)


# ------------------------------------------------------------------------------------------------ both


def _twice(path: str, other: str) -> Unpaired:
    return Unpaired(path, f"{other} is taken for the same")


def _joined(images: Mapping[str, str], labels: Sequence[tuple[str, str, str]], unpaired: Sequence[Unpaired]) -> Pairing:
    """Pairs of images (path by key) and labels (key, name, path)."""
    by_key: dict[str, dict[str, str]] = defaultdict(dict)
    rest = list(unpaired)
    for key, name, path in labels:
        if name in by_key[key]:
            rest.append(_twice(path, by_key[key][name]))
        by_key[key].setdefault(name, path)
    masks = {key: path for key, named in by_key.items() for name in _IGNORED if (path := named.pop(name, ""))}
    names = sorted({name for _, name, _ in labels} - set(_IGNORED), key=words.natural)
    ordered = sorted(images, key=words.natural)
    pairs = tuple(Pair(key, images[key], by_key.get(key, {}), masks.get(key)) for key in ordered)
    return Pairing(pairs, tuple(names), tuple(sorted(rest, key=lambda item: words.natural(item.path))))
