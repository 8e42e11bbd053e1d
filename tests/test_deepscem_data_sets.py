"""Data sets as DeepSCEM writes them, usual and unusual ones, in every action that opens one."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import tifffile

from deepscem_tui.engine.actions import ACTIONS, build
from deepscem_tui.engine.augmentation.recipes import strengths
from deepscem_tui.engine.context import Context
from deepscem_tui.engine.datasets.dataset import change_dataset, open_dataset
from deepscem_tui.engine.errors import DataError, DatasetError, LockedError
from deepscem_tui.engine.patches import PatchSampler, load_sources
from deepscem_tui.engine.reporting import Reporter
from deepscem_tui.engine.results import Result
from deepscem_tui.engine.stop import Stop

DEEPSCEM = Path(__file__).parents[2] / "shared" / "data" / "deepscem"
needs_deepscem = pytest.mark.skipif(not DEEPSCEM.is_dir(), reason="../shared/data/deepscem is not here")
SHAPE = (3, 16, 20)


def do(action_name: str, /, **values: Any) -> Result:
    action = ACTIONS[action_name]
    return action.carry_out(build(action, values), Context())


def voxels(shape: tuple[int, ...] = SHAPE, seed: int = 0) -> np.ndarray:
    found = np.random.default_rng(seed).random(shape, np.float32)
    found.flat[:2] = 0, 1
    return found


class Written:
    """A data set as DeepSCEM writes it: in one piece, without filters."""

    def __init__(self, path: Path, labels: Any = 2, name: str = "X", aliases: Any = None) -> None:
        self.path = path
        with h5py.File(path, "w") as file:
            file.attrs["name"], file.attrs["labels"] = name, labels
            if aliases is not None:
                file.attrs["labels_aliases"] = aliases

    def sample(self, name: str, shape: Any = SHAPE, **members: np.ndarray) -> Written:
        with h5py.File(self.path, "a") as file:
            group = file.create_group(name)
            group.attrs["shape"] = shape
            for member, array in members.items():
                group[member] = array
        return self


def masks(count: int, kind: str = "label", shape: tuple[int, ...] = SHAPE, value: int = 1) -> dict[str, np.ndarray]:
    return {
        f"{kind}_{index:04}": np.uint8(value) * (voxels(shape, index + 1) > 0.6).astype(np.uint8)
        for index in range(count)
    }


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "m.h5"
    do("create-model", out=path, labels=2, filters=2, depth=2, blocks_per_level=1)
    return path


# ------------------------------------------------------------------------------------------------ whole sets


def usual(path: Path) -> Written:
    return Written(path).sample("a", image=voxels(), **masks(2))


def of_windows(path: Path) -> Written:
    """Numbers have 32 bits there; aliases of a fixed length are what some tools make of them."""
    written = Written(path, np.int32(2), aliases=np.array([b"mito", b"ER"]))
    return written.sample("a", np.array(SHAPE, np.int32), image=voxels(), **masks(2))


def of_many_sizes(path: Path) -> Written:
    written = usual(path)
    written.sample("b", (1, 40, 16), image=voxels((1, 40, 16)), **masks(2, shape=(1, 40, 16)))
    return written.sample("c", (9, 16, 33), image=voxels((9, 16, 33)), **masks(2, shape=(9, 16, 33)))


def with_odd_names(path: Path) -> Written:
    written = Written(path, name="1707930000_1234")
    for name in ("1707930000_1234", "a b", "β", "-x", ".hidden", " lead", "x" * 230, "image", "label_0000", "a;b"):
        written.sample(name, image=voxels(), **masks(2))
    return written


def of_255(path: Path) -> Written:
    return Written(path).sample("a", image=voxels(), **masks(2, value=255))


def with_a_constant_image(path: Path) -> Written:
    return usual(path).sample("b", image=np.full(SHAPE, np.nan, np.float32), **masks(2))


def with_transforms(path: Path) -> Written:
    signed = np.tanh(voxels() * 4 - 2)
    transforms = {"label_0000_dt": signed, "label_0001_dt": signed.astype(np.float16)}
    return Written(path, aliases=["mito", "ER"]).sample("a", image=voxels(), **masks(2), **transforms)


def of_too_few(path: Path) -> Written:
    """Its command line adds as many labels as it is given, whatever the data set says."""
    return Written(path, 0).sample("a", image=voxels(), **masks(2))


SETS = [usual, of_windows, of_many_sizes, with_odd_names, of_255, with_a_constant_image, with_transforms, of_too_few]


@pytest.mark.parametrize("suffix", [".hdf5", ".h5"])
@pytest.mark.parametrize("make", SETS, ids=lambda make: make.__name__)
def test_every_action_takes_it(make: Callable[[Path], Written], suffix: str, model: Path, tmp_path: Path) -> None:
    path = make(tmp_path / f"set{suffix}").path
    before = path.read_bytes()
    with open_dataset(path) as dataset:
        names = list(dataset.samples)
        shapes = {name: dataset.sample(name).shape for name in names}
    assert do("info", path=path).facts["kind"] == "data set"
    faults = {row["severity"] for row in do("check-dataset", file=path).tables[0].as_dicts()}
    assert ("error" in faults) == (make in (of_255, with_a_constant_image, of_too_few))
    for name in names:
        do("preview", file=path, sample=name)
        do("export-sample", file=path, sample=name, folder=tmp_path / "exported", overwrite=True)
    predicted = tmp_path / "predicted.hdf5"
    do("predict", model=model, input=path, out=predicted)
    rows = do("evaluate", reference=path, segmentation=predicted).tables[0].as_dicts()
    assert len(rows) == 2 * len(names) + 3
    assert {row["tp"] + row["fn"] for row in rows if row["sample"] == "a" and row["label"] != "mean"} <= {
        int((mask > 0).sum()) for mask in masks(2).values()
    }
    do("save-dataset", file=path, out=tmp_path / "saved.hdf5")
    assert path.read_bytes() == before
    with open_dataset(tmp_path / "saved.hdf5") as saved:
        assert {name: saved.sample(name).shape for name in saved.samples} == shapes
    with change_dataset(path) as changed:
        changed.rename_sample(names[0], "renamed")
    do("crop-sample", file=path, sample="renamed", y=(0, 8))
    do("remove-sample", file=path, sample="renamed")


@pytest.mark.parametrize("make", SETS, ids=lambda make: make.__name__)
def test_it_can_be_trained_on(make: Callable[[Path], Written], tmp_path: Path) -> None:
    path = make(tmp_path / "set.hdf5").path
    with open_dataset(path) as dataset:
        sources = load_sources(list(dataset.samples.values()), 2**30, Reporter(), Stop())
        sampler = PatchSampler(sources, (1, 8, 8), 16, focus=0.5, augmentation=strengths("standard"), flat=True, seed=0)
        batch = sampler.batch(0)
    assert batch.images.dtype == np.float32
    assert 0 <= batch.images.min() <= batch.images.max() <= 1
    assert batch.labels.shape == (16, 8, 8, 2)
    assert set(np.unique(batch.labels)) == {0, 1}


def test_its_command_line_may_leave_labels_out(model: Path, tmp_path: Path) -> None:
    path = usual(tmp_path / "set.hdf5").sample("b", image=voxels()).path
    Written(tmp_path / "one.hdf5").sample("a", image=voxels(), **masks(2)).sample("b", image=voxels(), **masks(1))
    assert do("info", path=path).tables[0].as_dicts()[1]["labels"] == 0
    do("preview", file=path, sample="b")
    do("predict", model=model, input=path, out=tmp_path / "out.hdf5")
    with pytest.raises(DatasetError, match=r"'b'.* has no labels"):
        do("evaluate", reference=path, segmentation=tmp_path / "out.hdf5")
    with pytest.raises(DataError, match="different numbers of labels: 2 labels in 'a', 1 label in 'b'"):
        do("evaluate", reference=tmp_path / "one.hdf5", segmentation=tmp_path / "one.hdf5")


@pytest.mark.parametrize("kind", [np.uint8, np.float32])
@pytest.mark.parametrize("wild", [False, True])
def test_its_predictions(kind: type[Any], wild: bool, tmp_path: Path) -> None:
    values = voxels(seed=7) * (6 if wild else 1) - (3 if wild else 0)  # of a linear output
    stored = (values > 0.5).astype(kind) if kind is np.uint8 else values
    path = Written(tmp_path / "p.hdf5", 1, "X pred").sample("a", image=voxels(), prediction_0000=stored).path
    reference = Written(tmp_path / "r.hdf5", 1).sample("a", image=voxels(), **masks(1)).path
    checked = do("check-dataset", file=path)
    assert checked.ok
    assert len(checked.tables[0].rows) == (kind is np.float32 and wild)
    row = do("evaluate", reference=reference, segmentation=path).tables[0].as_dicts()[0]
    true = masks(1)["label_0000"] > 0
    assert row["tp"] == int((true & (values > 0.5)).sum())
    # DeepSCEM counts every value above 0.
    row = do("evaluate", reference=reference, segmentation=path, threshold=0).tables[0].as_dicts()[0]
    assert row["tp"] == int((true & (stored > 0)).sum())
    do("export-sample", file=path, sample="a", folder=tmp_path)
    assert np.array_equal(tifffile.imread(tmp_path / "a_label_0000.tif") > 0.5, stored > 0.5)


_LOADS = """
import sys, h5py
try:
    file = h5py.File(sys.argv[1], "a")
except BlockingIOError:
    print("refused")
else:
    print("loaded", flush=True)
    sys.stdin.read()
"""


def deepscem_loads(path: Path) -> subprocess.Popen[str]:
    """Another process that has the file open for writing, as DeepSCEM from loading to unloading."""
    return subprocess.Popen(
        [sys.executable, "-c", _LOADS, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


@pytest.mark.skipif(os.name != "posix", reason="HDF5 locks files on POSIX only")
def test_what_deepscem_has_loaded_is_read_but_not_changed(tmp_path: Path) -> None:
    path = usual(tmp_path / "set.hdf5").path
    with deepscem_loads(path) as theirs:
        assert theirs.stdout is not None
        assert theirs.stdout.readline() == "loaded\n"
        do("check-dataset", file=path)
        before = path.read_bytes()
        with pytest.raises(LockedError, match="open in another program"):
            do("rename-sample", file=path, sample="a", new="b")
        assert path.read_bytes() == before
        theirs.communicate("")
    with change_dataset(path), deepscem_loads(path) as theirs:
        assert theirs.communicate("")[0] == "refused\n"
    do("rename-sample", file=path, sample="a", new="b")
    assert [item.name for item in tmp_path.iterdir()] == ["set.hdf5"]


# ------------------------------------------------------------------------------------------------ read-only


@contextmanager
def somebody_else() -> Iterator[None]:
    """Without the rights of root, who may write everywhere."""
    if os.name != "posix" or os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def readable() -> Iterator[Path]:
    """A folder that everybody may look into, unlike pytest's."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)
        Path(folder).chmod(0o755)


@pytest.mark.skipif(os.name != "posix", reason="permissions are POSIX's")
@pytest.mark.parametrize("file_mode", [0o444, 0o644])
@pytest.mark.parametrize("folder_mode", [0o555, 0o755])
def test_what_may_only_be_read_is_read(file_mode: int, folder_mode: int, readable: Path, tmp_path: Path) -> None:
    path = usual(readable / "set.hdf5").path
    do("check-dataset", file=path)  # imports what is needed
    path.chmod(file_mode)
    readable.chmod(folder_mode)
    with somebody_else():
        assert do("check-dataset", file=path).ok
        assert do("info", path=path).facts["labels"] == 2
        do("preview", file=path, sample="a")
        rows = do("evaluate", reference=path, segmentation=path).tables[0].as_dicts()
        assert rows[0]["f1"] == 1
        if not all(os.access(item, os.W_OK, effective_ids=True) for item in (path, readable)):
            with pytest.raises(DatasetError, match=r"set\.hdf5 cannot be (written|changed)"), change_dataset(path):
                pass
    assert [item.name for item in readable.iterdir()] == ["set.hdf5"]


@needs_deepscem
def test_deepscems_files_are_not_written_to_by_looking(model: Path, tmp_path: Path) -> None:
    for name in ("dataset.hdf5", "prediction.hdf5"):
        path = tmp_path / name
        path.write_bytes((DEEPSCEM / name).read_bytes())
        os.utime(path, (1e9, 1e9))
        before = path.read_bytes()
        for action, values in (
            ("info", {"path": path}), ("check-dataset", {"file": path}), ("preview", {"file": path}),
            ("export-sample", {"file": path, "sample": "a", "folder": tmp_path / name[:4]}),
            ("predict", {"model": model, "input": path, "out": tmp_path / f"of-{name}"}),
            ("evaluate", {"reference": DEEPSCEM / "dataset.hdf5", "segmentation": path}),
            ("save-dataset", {"file": path, "out": tmp_path / f"saved-{name}"}),
            ("create-model", {"like": path, "out": tmp_path / f"{name}.keras", "filters": 1, "depth": 1}),
        ):  # fmt: skip
            do(action, **values)
            assert path.read_bytes() == before
            assert path.stat().st_mtime == 1e9
    assert not [item.name for item in tmp_path.iterdir() if item.suffix in (".lock", ".journal")]
