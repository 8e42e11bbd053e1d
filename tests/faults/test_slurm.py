"""The job script of the documentation, by bash, with stand-ins for srun and scontrol: stopped, begun anew, finished."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from deepscem_tui.engine.datasets.dataset import new_dataset
from deepscem_tui.engine.runs import runs

SCRIPT = Path(__file__).parents[2] / "docs" / "slurm.sbatch"

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="SLURM is for Linux")


def place(folder: Path, name: str, *lines: str) -> None:
    """A program of a name, in a folder of such."""
    folder.mkdir(exist_ok=True)
    (folder / name).write_text("\n".join(["#!/bin/sh", *lines, ""]))
    (folder / name).chmod(0o755)


@pytest.fixture
def cluster(tmp_path: Path) -> dict[str, str]:
    """An environment in which jobs are begun; a job that is requeued is noted in `requeued`."""
    place(tmp_path / "bin", "srun", 'exec "$@"')
    place(tmp_path / "bin", "scontrol", f'echo "$@" >> {tmp_path}/requeued')
    place(tmp_path / "bin", "deepscem-tui", f'exec {sys.executable} -m deepscem_tui "$@"')
    path = f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "SLURM_JOB_ID": "42", "CUDA_VISIBLE_DEVICES": ""}


def test_a_job_that_is_begun_anew_goes_on(tmp_path: Path, cluster: dict[str, str]) -> None:
    with new_dataset(tmp_path / "d.hdf5", "d", 1) as dataset:
        sample = dataset.add_sample("s", (3, 32, 32), {"image": np.float32, "label_0000": np.uint8})
        sample["image"][:] = np.random.default_rng(0).random((3, 32, 32))
        sample["label_0000"][:] = np.random.default_rng(0).random((3, 32, 32)) > 0.5
    made = "run create-model m.keras --like d.hdf5 --depth 2 --filters 2"
    subprocess.run([sys.executable, "-m", "deepscem_tui", *made.split()], cwd=tmp_path, check=True, timeout=120)
    words = "train m.keras out.keras --train d.hdf5 --epochs 3 --steps-per-epoch 300 --batch-size 1"
    job = ["bash", str(SCRIPT), *words.split()]

    first = subprocess.Popen(job, cwd=tmp_path, env=cluster, stderr=subprocess.PIPE)
    while not (found := runs.find(tmp_path / "runs")) or (found[0].progress or {}).get("task") != "Training":
        assert first.poll() is None, first.stderr.read() if first.stderr else ""
        time.sleep(0.02)
    first.send_signal(signal.SIGUSR1)  # as SLURM does, to the script alone
    _, said = first.communicate(timeout=120)
    assert b"SIGUSR1" in said
    assert (tmp_path / "requeued").read_text() == "requeue 42\n"
    (run,) = runs.find(tmp_path / "runs")
    assert run.state == "stopped"
    assert not (tmp_path / "out.keras").exists()

    second = subprocess.run(job, cwd=tmp_path, env=cluster, capture_output=True, text=True, timeout=300, check=False)
    assert second.returncode == 0, second.stderr
    assert "Going on with" in second.stderr
    assert "Going on after" in second.stderr  # from its checkpoint
    (run,) = runs.find(tmp_path / "runs")
    assert run.state == "finished"
    assert (tmp_path / "out.keras").exists()
    assert (tmp_path / "requeued").read_text() == "requeue 42\n"


@pytest.mark.parametrize(
    ("ends", "sent", "status", "requeued"),
    [
        ("trap 'exit 75' USR1", "USR1", 0, True),
        ("trap 'exit 75' USR1", None, 3, False),  # it ends by itself, with an error
        ("", "USR1", 0, True),  # the signal comes before the program can take it
        ("trap 'exit 3' USR1", "USR1", 3, False),
    ],
)
def test_what_is_begun_anew(
    ends: str, sent: str | None, status: int, requeued: bool, tmp_path: Path, cluster: dict[str, str]
) -> None:
    waiting = "while [ ! -e go ]; do sleep 0.02; done; exit 3"
    place(tmp_path / "bin", "deepscem-tui", ends, "echo ready", waiting)
    job = subprocess.Popen(["bash", str(SCRIPT), "train"], cwd=tmp_path, env=cluster, stdout=subprocess.PIPE)
    assert job.stdout is not None
    assert job.stdout.readline() == b"ready\n"
    if sent:
        job.send_signal(signal.Signals[f"SIG{sent}"])
    else:
        (tmp_path / "go").touch()
    assert job.wait(60) == status
    assert (tmp_path / "requeued").exists() == requeued


def test_a_step_that_ends_while_the_signal_is_passed_on_keeps_its_status(
    tmp_path: Path, cluster: dict[str, str]
) -> None:
    """It is gone when the script looks again after the waiting that the signal ended."""
    place(tmp_path / "bin", "deepscem-tui", "trap 'exit 3' USR1", "echo ready", "while :; do sleep 0.02; done")
    # In place of bash's own kill: back only when whom it told has ended.
    slow = 'kill() { builtin kill "$@" || return; [ "$1" = -0 ] || while [ -e alive ]; do sleep 0.01; done; }'
    place(tmp_path / "bin", "srun", "touch alive", '"$@" &', "trap 'kill -USR1 $!' USR1", "wait $!",
          "wait $!", "status=$?", "rm alive", "exit $status")  # fmt: skip
    (tmp_path / "job").write_text(f"{slow}\n{SCRIPT.read_text()}")
    job = subprocess.Popen(["bash", "job", "train"], cwd=tmp_path, env=cluster, stdout=subprocess.PIPE)
    assert job.stdout is not None
    assert job.stdout.readline() == b"ready\n"
    job.send_signal(signal.SIGUSR1)
    assert job.wait(60) == 3
    assert not (tmp_path / "requeued").exists()


def test_each_job_of_an_array_has_its_part(tmp_path: Path, cluster: dict[str, str]) -> None:
    place(tmp_path / "bin", "deepscem-tui", 'echo "$@"', "exit 75")
    array = {"SLURM_ARRAY_JOB_ID": "40", "SLURM_ARRAY_TASK_ID": "3", "SLURM_ARRAY_TASK_COUNT": "8"}
    words = ["bash", str(SCRIPT), "predict", "m.keras", "a b.tif", "out.hdf5"]
    job = subprocess.run(
        words, cwd=tmp_path, env=cluster | array, capture_output=True, text=True, check=False, timeout=60
    )
    assert job.stdout == "run predict m.keras a b.tif out.hdf5 --shard 3/8 --resume\n"
    assert job.returncode == 75  # stopped, but not since time was short
    assert not (tmp_path / "requeued").exists()
