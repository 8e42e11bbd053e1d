"""Files that crash the library that reads them, or hold it for ever, are refused and do no harm."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import psutil
import pytest
import tifffile

from deepscem_tui.engine.datasets import probe_helper, probing
from deepscem_tui.engine.datasets.dataset import change_dataset, new_dataset, open_dataset
from deepscem_tui.engine.datasets.probing import probe
from deepscem_tui.engine.errors import DatasetError, VolumeError
from deepscem_tui.engine.formats.volumes import open_volume

HARMFUL = """
import os, signal
from deepscem_tui.engine.datasets import probe_helper

def look(path):
    name = os.path.basename(path)
    if name.startswith("crash"):
        os.kill(os.getpid(), signal.SIGSEGV)
    if name.startswith("endless"):
        all(True for _ in iter(int, 1))
    if name.startswith("greedy"):
        bytearray(1 << 40)
    if name.startswith("killed"):
        os.kill(os.getpid(), signal.SIGTERM)
    if name.startswith("odd"):
        raise RuntimeError

def main():
    probe_helper._LOOKS["hdf5"] = look
    probe_helper._SECONDS = 0.3
    probe_helper.main()
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    with new_dataset(tmp_path / "data.hdf5", "data", 1, aliases=("one",)) as made:
        sample = made.add_sample("a", (4, 16, 16), {"image": np.float32, "label_0000": np.uint8}, {"voxel_unit": "nm"})
        sample["image"][0:4] = np.random.default_rng(0).random((4, 16, 16), np.float32)
        sample["label_0000"][0:4] = np.ones((4, 16, 16), np.uint8)
    return tmp_path / "data.hdf5"


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Path]]:
    """What the helper is asked about, in a process that has seen nothing yet."""
    found: list[Path] = []
    helper = probing._Helper()
    look = helper.look_through
    monkeypatch.setattr(helper, "look_through", lambda path, kind: (found.append(path), look(path, kind))[1])
    monkeypatch.setattr(probing, "_helper", helper)
    monkeypatch.setattr(probing, "_seen", {})
    yield found
    helper.end()


@pytest.fixture
def harmful(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the helper, files called so do what a damaged file may do to HDF5."""
    (tmp_path / "harmful_helper.py").write_text(HARMFUL)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(probing, "_MODULE", "harmful_helper")


@pytest.mark.skipif(os.name != "posix", reason="signals tell how a process ended")
@pytest.mark.parametrize(
    ("name", "words"), [("crash", "crashes the library"), ("endless", "never comes to an end"), ("greedy", "memory")]
)
def test_a_harmful_file_is_refused_and_the_next_one_is_not(
    tmp_path: Path, asked: list[Path], harmful: None, name: str, words: str
) -> None:
    bad, good = tmp_path / f"{name}.hdf5", tmp_path / "good.hdf5"
    for file in (bad, good):
        file.write_bytes(b"content")
    for _ in range(2):
        with pytest.raises(VolumeError, match=words) as caught:
            probe(bad, VolumeError)
        assert str(bad) in caught.value.what
        assert caught.value.hint
    probe(good, VolumeError)
    assert asked == [bad, good], "what was seen is not looked through again"


def test_an_error_is_left_to_whoever_opens_the_file(tmp_path: Path, asked: list[Path], harmful: None) -> None:
    (tmp_path / "odd.hdf5").write_bytes(b"content")
    probe(tmp_path / "odd.hdf5", VolumeError)
    probe(tmp_path / "missing.hdf5", VolumeError)
    assert asked == [tmp_path / "odd.hdf5"]


def test_a_file_that_is_known_does_not_wait_for_one_that_is_not(path: Path, asked: list[Path]) -> None:
    os.utime(path, (1, 1))
    probe(path, DatasetError)
    with probing._lock:  # as while a disk does not answer
        opening = threading.Thread(target=probe, args=(path, DatasetError), daemon=True)
        opening.start()
        opening.join(30)
        assert not opening.is_alive()
    assert asked == [path]


def test_a_file_is_looked_through_again_when_it_has_changed(path: Path, asked: list[Path]) -> None:
    os.utime(path, (1, 1))
    for _ in range(2):
        with open_dataset(path):
            pass
    assert asked == [path]
    with path.open("ab") as file:
        file.write(b"more")
    with open_dataset(path):
        pass
    assert asked == [path, path]


def test_what_this_program_writes_is_not_looked_through(path: Path, asked: list[Path]) -> None:
    probing.remember(path)
    with open_dataset(path):
        pass
    with change_dataset(path) as dataset:
        dataset.set_name("other")
    with open_dataset(path) as dataset:
        assert dataset.name == "other"
    assert asked == []


def test_another_process_knows_what_this_one_has_seen(
    path: Path, asked: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    os.utime(path, (1, 1))
    probe(path, DatasetError)
    monkeypatch.setattr(probing, "_seen", {})
    probe(path, DatasetError)
    assert asked == [path]
    assert str(path) not in probing._list_path().read_text(), "no names of the user's files"


def test_the_list_of_files_seen_does_not_grow_for_ever(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probing, "_MOST_BYTES", 3 * probing._LINE)
    for second in range(20):
        os.utime(path, (second, second))
        probing.remember(path)
    assert probing._list_path().stat().st_size <= 5 * probing._LINE


@pytest.mark.parametrize("content", [b"\xff\xfe", b"0" * 10_000])
def test_a_list_that_is_damaged_is_as_none(path: Path, asked: list[Path], content: bytes) -> None:
    probing._list_path().parent.mkdir(parents=True, exist_ok=True)
    probing._list_path().write_bytes(content)
    os.utime(path, (1, 1))
    probe(path, DatasetError)
    assert asked == [path]


def test_without_a_helper_files_are_opened_as_ever(
    path: Path, asked: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    os.utime(path, (1, 1))
    with open_dataset(path) as dataset:
        assert dataset.name == "data"


@pytest.mark.parametrize("code", ["raise SystemExit(1)", "import os; os.abort()", "import nothing_such"])
def test_a_helper_that_does_not_come_to_its_work_says_nothing_of_a_file(
    path: Path, tmp_path: Path, asked: list[Path], monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    (tmp_path / "broken_helper.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    os.utime(path, (1, 1))
    with monkeypatch.context() as broken:
        broken.setattr(probing, "_MODULE", "broken_helper")
        probe(path, DatasetError)
    probe(path, DatasetError)
    probe(path, DatasetError)
    assert asked == [path, path], "it was looked through when that could be done, and once"


@pytest.mark.skipif(os.name != "posix", reason="signals tell how a process ended")
def test_a_helper_that_others_end_says_nothing_of_a_file(tmp_path: Path, asked: list[Path], harmful: None) -> None:
    (tmp_path / "killed.hdf5").write_bytes(b"content")
    for _ in range(2):
        probe(tmp_path / "killed.hdf5", VolumeError)
    assert asked == [tmp_path / "killed.hdf5"] * 2, "it is not remembered as seen"


def test_a_helper_that_ended_is_replaced(path: Path, asked: list[Path]) -> None:
    for second in (1, 2):
        os.utime(path, (second, second))
        probe(path, DatasetError)
        psutil.Process(probing._helper._process.pid).kill()
    assert asked == [path, path]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_fork_has_a_helper_of_its_own(path: Path, asked: list[Path]) -> None:
    os.utime(path, (1, 1))
    probe(path, DatasetError)
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            os.utime(path, (2, 2))
            probe(path, DatasetError)
            status = 0
        finally:
            probing._helper.end()
            os._exit(status)
    assert os.waitpid(pid, 0)[1] == 0
    os.utime(path, (3, 3))
    probe(path, DatasetError)


def test_the_helper_leaves_with_its_process(path: Path) -> None:
    os.utime(path, (1, 1))
    code = (
        "import sys; from pathlib import Path; from deepscem_tui.engine.datasets import probing;"
        "from deepscem_tui.engine.errors import DataError; probing.probe(Path(sys.argv[1]), DataError);"
        "print(probing._helper._process.pid)"
    )
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True, timeout=60)
    assert done.stderr == ""
    assert not psutil.pid_exists(int(done.stdout))


def test_it_takes_nothing_from_the_folder_it_is_started_in(
    path: Path, asked: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A module that lies beside the data is not imported."""
    (path.parent / "h5py.py").write_text("import pathlib; pathlib.Path('hacked').touch()")
    monkeypatch.chdir(path.parent)
    monkeypatch.setattr(sys, "path", ["", *sys.path])
    os.utime(path, (1, 1))
    probe(path, DatasetError)
    assert asked == [path]
    assert not (path.parent / "hacked").exists()


@pytest.mark.parametrize("seed", range(40))
def test_damage_to_texts_on_which_hdf5_itself_never_returns(path: Path, seed: int) -> None:
    content, chance = bytearray(path.read_bytes()), random.Random(seed)
    heap = content.index(b"GCOL")  # of texts: two to three in a hundred changes there make HDF5 1.14 go round
    for _ in range(chance.randint(1, 4)):
        content[heap + chance.randrange(600)] ^= chance.randint(1, 255)
    path.write_bytes(content)
    with suppress(DatasetError), open_dataset(path) as dataset:
        for sample in dataset.samples.values():
            assert sample.image[0:1].shape == (1, 16, 16)


@pytest.mark.parametrize(("compression", "wanted"), [("deflate", False), ("zstd", True), ("jpeg", True)])
def test_tiff_files_are_looked_through_where_the_codec_is_large(
    tmp_path: Path, asked: list[Path], compression: str, wanted: bool
) -> None:
    path = tmp_path / "image.tif"
    tifffile.imwrite(path, np.zeros((3, 32, 32), np.uint8), compression=compression, photometric="minisblack")
    with open_volume(path) as volume:
        assert volume.read(0, 3).shape == (3, 32, 32)
    assert asked == ([path] if wanted else [])


def test_everything_in_a_file_is_read(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import h5py

    read: list[str] = []
    attribute, voxels = h5py.AttributeManager.__getitem__, h5py.Dataset.__getitem__
    monkeypatch.setattr(
        h5py.AttributeManager, "__getitem__", lambda self, name: (read.append(str(name)), attribute(self, name))[1]
    )
    monkeypatch.setattr(
        h5py.Dataset, "__getitem__", lambda self, key: (read.append(f"{self.name}{key}"), voxels(self, key))[1]
    )
    probe_helper._look_through_hdf5(str(path))
    assert {"name", "labels", "labels_aliases", "shape", "voxel_unit"} <= set(read)
    assert {f"/a/{name}{corner}" for name in ("image", "label_0000") for corner in ((0, 0, 0), (3, 15, 15))} <= set(
        read
    )
