"""Several processes that change and read one data set at once, as colleagues and jobs do."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from deepscem_tui.engine.datasets.dataset import change_dataset, new_dataset, open_dataset
from deepscem_tui.engine.datasets.journal import is_journalled

WRITERS, CHANGES = 3, 6

# Adds samples, waiting for the others as long as it takes; each sample's voxels say which it is.
WRITER = """
import sys
from pathlib import Path
import numpy as np
from deepscem_tui.engine.system import lock
from deepscem_tui.engine.datasets.dataset import change_dataset
lock.WAIT_SECONDS = 120
path, me, changes = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
print("ready", flush=True)
sys.stdin.readline()
for number in range(changes):
    with change_dataset(path) as changed:
        sample = changed.add_sample(f"{me}-{number}", (8, 20, 20), {"image": np.float32})
        sample["image"][:] = np.full((8, 20, 20), me * 100 + number)
        changed.set_name(str(len(changed.samples)))
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    made = tmp_path / "set.hdf5"
    with new_dataset(made, "0", 0):
        pass
    return made


def test_nobody_undoes_what_another_has_done_and_readers_see_whole_changes(path: Path) -> None:
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, path, str(number), str(CHANGES)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(WRITERS)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    seen = set()
    while any(process.poll() is None for process in processes):
        before = stamp(path)
        try:
            with open_dataset(path) as dataset:  # waits for the change in hand, and no longer
                seen.add(look(dataset))
        except Exception:
            if stamp(path) == before and not is_journalled(path):  # else it was changed during the look
                raise
    assert [process.wait() for process in processes] == [0] * WRITERS
    with open_dataset(path) as dataset:
        assert look(dataset) == WRITERS * CHANGES
    assert list(path.parent.iterdir()) == [path]
    assert seen
    for process in processes:
        process.communicate()


def stamp(path: Path) -> tuple[int, int]:
    """What any change of a file changes."""
    return path.stat().st_size, path.stat().st_mtime_ns


def look(dataset: object) -> int:
    """How many samples there are: as many as the name says, each with its own voxels."""
    samples = dataset.samples  # type: ignore[attr-defined]
    assert dataset.name == str(len(samples))  # type: ignore[attr-defined]
    for name, sample in samples.items():
        me, number = map(int, name.split("-"))
        assert (np.asarray(sample.image) == me * 100 + number).all(), name
    return len(samples)


def test_a_finished_writer_blocks_no_reader(path: Path) -> None:
    with change_dataset(path) as changed:
        changed.set_name("1")
    assert list(path.parent.iterdir()) == [path]
    path.parent.chmod(0o500)  # nothing need be written to read it
    try:
        with open_dataset(path) as one, open_dataset(path) as other:
            assert one.name == other.name == "1"
    finally:
        path.parent.chmod(0o700)
