"""Every data set that our actions make is one that DeepSCEM reads, by the model in deepscem_reader.py."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import tifffile
from deepscem_reader import DeepSCEM, Stumbles, check_format

from deepscem_tui.engine import parameters as p
from deepscem_tui.engine.actions import ACTIONS, build, declared
from deepscem_tui.engine.context import Context
from deepscem_tui.engine.datasets.dataset import open_dataset
from deepscem_tui.engine.results import Result

DEEPSCEM = Path(__file__).parents[2] / "shared" / "data" / "deepscem"
needs_deepscem = pytest.mark.skipif(not DEEPSCEM.is_dir(), reason="../shared/data/deepscem is not here")
SHAPE = (5, 24, 28)


def do(action_name: str, /, **values: Any) -> Result:
    action = ACTIONS[action_name]
    return action.carry_out(build(action, values), Context())


def voxels(dtype: str = "uint8", shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    found = np.random.default_rng(0).integers(0, 200, shape)
    return (found - 90 if dtype == "int16" else found > 90 if dtype == "bool" else found).astype(dtype)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "m.keras"
    do("create-model", out=path, labels=2, filters=2, depth=2, blocks_per_level=1)
    return path


class Folder:
    """Image files, and data sets made of them."""

    def __init__(self, path: Path, model: Path) -> None:
        self.path = path
        self.model = model
        tifffile.imwrite(
            path / "image.tif", voxels(), imagej=True, resolution=(0.25, 0.25),
            metadata={"axes": "ZYX", "spacing": 8.0, "unit": "nm"},
        )  # fmt: skip
        tifffile.imwrite(path / "mask.tif", (voxels() > 150) * np.uint8(255))
        tifffile.imwrite(path / "ids.tif", voxels("uint16") // 60)

    def dataset(self, name: str = "set.hdf5", labels: int = 2) -> Path:
        """A data set without samples."""
        do("create-dataset", file=self.path / name, name=Path(name).stem, n_labels=labels)
        return self.path / name

    def added(self, name: str = "set.hdf5", **values: Any) -> Path:
        """A data set of one sample."""
        given = {"image": self.path / "image.tif", "labels": (str(self.path / "mask.tif"), "")} | values
        file = self.dataset(name, len(given["labels"]))
        do("add-sample", file=file, name="a", **given)
        return file


def _add_types(folder: Folder) -> Path:
    file = folder.dataset()
    for dtype in ("uint8", "uint16", "int16", "float32", "bool"):
        np.save(folder.path / f"{dtype}.npy", voxels(dtype))
        do("add-sample", file=file, name=dtype, image=folder.path / f"{dtype}.npy", labels=("", ""))
    np.save(folder.path / "flat.npy", voxels(shape=(30, 31)))
    np.save(folder.path / "same.npy", np.full(SHAPE, 7, np.uint8))
    odd = voxels("float32")
    odd[0, 0, :3] = np.nan, np.inf, -np.inf
    np.save(folder.path / "odd.npy", odd)
    for name in ("flat", "same", "odd"):
        do("add-sample", file=file, name=name, image=folder.path / f"{name}.npy")
    ids = (str(folder.path / "ids.tif"), str(folder.path / "mask.tif"))
    do("add-sample", file=file, name="β 2 'x' #", image=folder.path / "image.tif", labels=ids, range="type")
    return file


def _crop(folder: Folder) -> Path:
    file = folder.added()
    do("crop-sample", file=file, sample="a", z=(1, 4), y=(0, 16))
    do("crop-sample", file=file, sample="a", x=(3, 4), name="thin")
    return file


def _import(folder: Folder) -> Path:
    file, images = folder.path / "imported.hdf5", folder.path / "images"
    for name in ("b 1", "b 2"):
        for part, end in (("image", ""), ("mask", "_label_β"), ("ids", "_label_er")):
            images.mkdir(exist_ok=True)
            shutil.copy(folder.path / f"{part}.tif", images / f"{name}{end}.tif")
    do("import-folder", file=file, folder=images)
    return file


def _rename(folder: Folder) -> Path:
    file = folder.added()
    do("rename-dataset", file=file, new="Ein anderer Name")
    do("rename-sample", file=file, sample="a", new="zwei Wörter")
    return file


def _alias(folder: Folder) -> Path:
    file = folder.added()
    do("set-aliases", file=file, aliases=("Mitochondrien", "ER / Golgi".replace("/", "und")))
    return file


def _unalias(folder: Folder) -> Path:
    file = _alias(folder)
    do("set-aliases", file=file, clear=True)
    return file


def _labelled_slices(folder: Folder) -> Path:
    file = folder.added(labelled_z="1:3")
    do("crop-sample", file=file, sample="a", z=(0, 2), name="crop")
    return file


def _labelled_voxels(folder: Folder) -> Path:
    file = folder.added()
    do("set-labelled", file=file, sample="a", ignore_mask=folder.path / "mask.tif")
    return file


def _classes(folder: Folder) -> Path:
    return folder.added(labels=(str(folder.path / "ids.tif"), ""), classes="one=1,more=2", labelled_y="2:")


def _remove(folder: Folder) -> Path:
    file = _crop(folder)
    do("remove-sample", file=file, sample="a")
    return file


def _save(folder: Folder) -> Path:
    do("save-dataset", file=_remove(folder), out=folder.path / "saved.hdf5")
    return folder.path / "saved.hdf5"


def _size(folder: Folder) -> Path:
    file = folder.added()
    do("set-voxel-size", file=file, voxel_size="30,8,8 nm")
    return file


def _split(folder: Folder) -> Path:
    file = folder.added()
    do("split-dataset", file=file, out_dir=folder.path / "parts", folds=2, by="z", gap=0)
    return folder.path / "parts" / "fold_1_train.hdf5"


def _transform(folder: Folder) -> Path:
    file = _crop(folder)
    do("distance-transform", file=file)
    return file


def _transform_saved(folder: Folder) -> Path:
    do("save-dataset", file=_transform(folder), out=folder.path / "saved.hdf5")
    return folder.path / "saved.hdf5"


def _predict(**options: Any) -> Callable[[Folder], Path]:
    def make(folder: Folder) -> Path:
        do("predict", model=folder.model, input=_alias(folder), out=folder.path / "out.hdf5", **options)
        return folder.path / "out.hdf5"

    return make


def _merge(folder: Folder) -> Path:
    out, source = folder.path / "out.hdf5", _alias(folder)
    for shard in ("1/2", "2/2"):
        do("predict", model=folder.model, input=source, out=out, shard=shard)
    do("merge", out=out, shards=(str(folder.path / "out.hdf5.shards"),))
    return out


def _predict_image(folder: Folder) -> Path:
    do("predict", model=folder.model, input=folder.path / "image.tif", out=folder.path / "out.hdf5")
    return folder.path / "out.hdf5"


def _crop_predicted(folder: Folder) -> Path:
    file = _predict()(folder)
    do("crop-sample", file=file, sample="a", z=(1, 3))
    return file


def _clean(folder: Folder) -> Path:
    do("clean-masks", input=_predict()(folder), out=folder.path / "cleaned.hdf5", fill_holes="all")
    return folder.path / "cleaned.hdf5"


def _clean_labels(folder: Folder) -> Path:
    do("clean-masks", input=_labelled_voxels(folder), out=folder.path / "cleaned.hdf5", min_size=(2, ""))
    return folder.path / "cleaned.hdf5"


def _save_theirs(name: str) -> Callable[[Folder], Path]:
    def make(folder: Folder) -> Path:
        do("save-dataset", file=DEEPSCEM / name, out=folder.path / "saved.hdf5")
        return folder.path / "saved.hdf5"

    return make


# By the action that is tried: how a data set is made with it.
LABELLED: Mapping[str, Callable[[Folder], Path]] = {
    "add-sample": Folder.added,
    "add-sample, types": _add_types,
    "add-sample, one label": lambda folder: folder.added(labels=("",)),
    "import-folder": _import,
    "crop-sample": _crop,
    "rename-dataset, rename-sample": _rename,
    "set-aliases": _alias,
    "set-aliases, clear": _unalias,
    "set-labelled, slices": _labelled_slices,
    "set-labelled, voxels": _labelled_voxels,
    "add-sample, classes": _classes,
    "remove-sample": _remove,
    "save-dataset": _save,
    "split-dataset": _split,
    "set-voxel-size": _size,
    "clean-masks, labels": _clean_labels,
}
UNLABELLED: Mapping[str, Callable[[Folder], Path]] = {
    "create-dataset": Folder.dataset,
    "add-sample, no labels": lambda folder: folder.added(labels=()),
    "distance-transform": _transform,
    "distance-transform, save-dataset": _transform_saved,
    "predict": _predict(),
    "predict, probabilities": _predict(probabilities=True),
    "predict, no image": _predict(image=False),
    "merge": _merge,
    "predict, deepscem": _predict(join="deepscem", patch_size=(16, 16)),
    "predict, an image": _predict_image,
    "predict, crop-sample": _crop_predicted,
    "clean-masks": _clean,
}
# What makes data sets by way of the actions above.
COMPOSED = ("demo", "train")


@pytest.fixture
def folder(tmp_path: Path, model: Path) -> Folder:
    (tmp_path / "made").mkdir()
    return Folder(tmp_path / "made", model)


def test_no_action_is_forgotten() -> None:
    makes = {
        action.name
        for action in ACTIONS.values()
        for parameter in declared(action)
        if parameter.makes.startswith("dataset")
        or (parameter.opens == "dataset" and parameter.name == "file" and issubclass(action.parameters, p.Changing))
    }
    tried = {name for label in (*LABELLED, *UNLABELLED) for name in label.split(", ")}
    assert makes - {"export-sample", "show-augmentation"} <= tried | set(COMPOSED)


def read_everything(file: Path, folder: Path, trains: bool) -> None:
    """All that DeepSCEM can do with a data set."""
    check_format(file)
    folder.mkdir()
    copy = shutil.copy(file, folder / "copy.hdf5")
    with DeepSCEM(copy) as theirs, open_dataset(file) as ours:
        tree = theirs.tree()
        assert (tree.name, tree.labels, tree.aliases) == (ours.name, ours.n_labels, ours.aliases)
        assert list(tree.samples) == list(ours.samples)
        for name, members in tree.samples.items():
            assert set(members) == set(ours.sample(name).members)
            depth = ours.sample(name).shape[0]
            shown = [member for member in members if not member.endswith("_dt")]
            for z in (0, depth - 1):
                picture = theirs.view(name, z, shown[:1])
                assert picture.shape == ours.sample(name).shape[1:]
                coloured = theirs.view(name, z, shown)
                for index, member in enumerate(shown[1:3]):
                    assert (coloured[..., index][ours.sample(name).members[member][z] > 0] == 255).all()
            theirs.export(name, folder)
        if trains:
            images, labels = theirs.training_data()
            assert {label.shape[-1] for label in labels} == {tree.labels}
            assert all(set(np.unique(label)) <= {0, 1} for label in labels)
            assert len(images) == len(tree.samples)
        for name in list(tree.samples):
            z, y, x = ours.sample(name).shape
            theirs.crop(name, [(0, z), (y // 2, y), (0, max(1, x // 2))])
        voxels = np.zeros((2, 4, 4))
        theirs.add_sample("theirs", voxels, [voxels] * tree.labels)
    with open_dataset(copy) as again:
        assert len(again.samples) == 2 * len(tree.samples) + 1
        for name in tree.samples:
            z, y, x = again.sample(name).shape
            crop = again.sample(f"{name}_crop_0_{z}_{y // 2}_{y}_0_{max(1, x // 2)}")
            for key, member in again.sample(name).members.items():
                assert np.array_equal(crop.members[key], member[:, y // 2 :, : max(1, x // 2)])
        assert again.sample("theirs").shape == (2, 4, 4)


@pytest.mark.parametrize("how", LABELLED)
def test_data_sets_with_labels(how: str, folder: Folder, tmp_path: Path) -> None:
    read_everything(LABELLED[how](folder), tmp_path / "read", trains=True)


@pytest.mark.parametrize("how", UNLABELLED)
def test_data_sets_that_are_not_for_training(how: str, folder: Folder, tmp_path: Path) -> None:
    file = UNLABELLED[how](folder)
    read_everything(file, tmp_path / "read", trains=False)
    if "no image" not in how:
        with DeepSCEM(file) as theirs:
            theirs.prediction_data()


@needs_deepscem
@pytest.mark.parametrize("name", ["dataset.hdf5", "prediction.hdf5"])
def test_deepscems_own_and_saved_again(name: str, folder: Folder, tmp_path: Path) -> None:
    read_everything(DEEPSCEM / name, tmp_path / "theirs", trains=name == "dataset.hdf5")
    read_everything(_save_theirs(name)(folder), tmp_path / "saved", trains=name == "dataset.hdf5")


@needs_deepscem
def test_what_it_adds_to_a_data_set_of_ours_and_we_to_one_of_its(folder: Folder, tmp_path: Path) -> None:
    file = Path(shutil.copy(DEEPSCEM / "dataset.hdf5", tmp_path / "theirs.hdf5"))
    labels = (str(folder.path / "mask.tif"), str(folder.path / "ids.tif"))
    do("add-sample", file=file, name="ours", image=folder.path / "image.tif", labels=labels)
    do("crop-sample", file=file, sample="b", z=(0, 2))
    read_everything(file, tmp_path / "read", trains=True)
    with DeepSCEM(file) as theirs, h5py.File(DEEPSCEM / "dataset.hdf5") as before:
        for name, sample in before.items():
            assert all(np.array_equal(theirs.file[name][key], member) for key, member in sample.items())


@pytest.mark.parametrize("join", ["crop", "deepscem"])
def test_its_scores_of_our_prediction_are_ours(join: str, folder: Folder) -> None:
    reference = folder.added()
    out = folder.path / "out.hdf5"
    do("predict", model=folder.model, input=reference, out=out, join=join, patch_size=(16, 16), threshold=0.45)
    rows = do("evaluate", reference=reference, segmentation=out).tables[0].as_dicts()
    with DeepSCEM(reference) as labels, DeepSCEM(out) as predicted:
        scores = labels.evaluate(predicted)
    assert scores
    for (index, sample), (f1, iou) in scores.items():
        row = next(row for row in rows if (row["label"], row["sample"]) == (f"label_{index:04d}", sample))
        if row["f1"] is not None:  # a label that the reference lacks is absent, and 0 there
            assert (row["f1"], row["iou"]) == pytest.approx((f1, iou), abs=1e-6)
        else:
            assert f1 == 0


@needs_deepscem
def test_the_model_scores_as_deepscem_did(tmp_path: Path) -> None:
    paths = [Path(shutil.copy(DEEPSCEM / f"{name}.hdf5", tmp_path)) for name in ("dataset", "prediction")]
    with DeepSCEM(paths[0]) as labels, DeepSCEM(paths[1]) as predicted:
        scores = labels.evaluate(predicted)
    assert scores[0, "a"] == pytest.approx((0.21014994, 0.11741204), abs=1e-6)
    assert scores[1, "a"] == pytest.approx((0.26173425, 0.15057208), abs=1e-6)


@pytest.mark.parametrize(
    ("change", "where"),
    [
        (lambda f: f.create_group("voxel_sizes"), ("format", "training")),
        (lambda f: f.__setitem__("table", np.arange(3)), ("format", "tree")),
        (lambda f: f["a"].__setitem__("image_raw", f["a"]["image"]), ("format",)),
        (lambda f: f["a"].__setitem__("label_0000_ignore", f["a"]["label_0000"]), ("format", "training")),
        (lambda f: f["a"].__setitem__("weights", f["a"]["label_0000"]), ("format", "training")),
        (lambda f: f["a"].__delitem__("label_0001"), ("format", "training")),
        (lambda f: f["a"]["image"].__setitem__((0, 0, 0), 1.5), ("format", "view")),
        (lambda f: f["a"]["label_0000"].__setitem__((0, 0, 0), 255), ("format",)),
        (lambda f: f.attrs.__delitem__("labels"), ("format", "tree")),
    ],
)
def test_the_model_notices_what_deepscem_would_stumble_over(
    change: Callable[[h5py.File], object], where: tuple[str, ...], folder: Folder
) -> None:
    file = folder.added()
    with h5py.File(file, "r+") as raw:
        change(raw)

    def train(theirs: DeepSCEM) -> None:
        _, labels = theirs.training_data()
        if {label.shape[-1] for label in labels} != {2}:
            raise Stumbles("another number of labels")

    uses: dict[str, Callable[[DeepSCEM], object]] = {
        "tree": DeepSCEM.tree,
        "view": lambda theirs: theirs.view("a", 0, ["image"]),
        "training": train,
    }
    noticed = []
    with suppress(Stumbles, KeyError):
        check_format(file)
        noticed.append("no fault of format")
    for name, use in uses.items():
        with DeepSCEM(file) as theirs:
            try:
                use(theirs)
            except (Stumbles, AttributeError):  # an array at the root has no members
                noticed.append(name)
    assert "no fault of format" not in noticed
    assert set(where) - {"format"} <= set(noticed)
