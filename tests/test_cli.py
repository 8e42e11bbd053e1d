"""The command line as its user types it: the main job, its exit statuses, its help, DeepSCEM's flags, signals."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
import tifffile

from deepscem_tui.cli import main

PROGRAM = [sys.executable, "-c", "import sys; from deepscem_tui.cli import main; sys.exit(main())"]


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DEEPSCEM_TUI_RUNS", raising=False)
    return tmp_path


class Typed:
    """What a command printed, and its exit status."""

    def __init__(self, capfd: pytest.CaptureFixture[str], line: str | list[str]) -> None:
        self.status = main(line.split() if isinstance(line, str) else line)
        self.out, self.err = capfd.readouterr()

    @property
    def json(self) -> dict:
        return json.loads(self.out)


@pytest.fixture
def typed(capfd: pytest.CaptureFixture[str]):
    return lambda line: Typed(capfd, line)


def make_images(folder: Path, shape: tuple[int, ...] = (6, 32, 40), n_labels: int = 2, prefix: str = "") -> list[str]:
    """An image whose bright disc is label 1 and whose left half is label 2, as TIFF files."""
    rng = np.random.default_rng(0)
    y, x = np.ogrid[: shape[-2], : shape[-1]]
    masks = [((y - 16) ** 2 + (x - 20) ** 2 < 80), (x < shape[-1] // 2) & (y >= 0)][:n_labels]
    image = np.broadcast_to(60 + 100 * masks[0] + (30 * masks[1] if n_labels > 1 else 0), shape) + rng.normal(
        0, 5, shape
    )
    names = [f"{prefix}image.tif", *(f"{prefix}label_{i}.tif" for i in range(n_labels))]
    tifffile.imwrite(folder / names[0], image.astype(np.uint8))
    for name, mask in zip(names[1:], masks, strict=True):
        tifffile.imwrite(folder / name, np.broadcast_to(mask * 255, shape).astype(np.uint8))
    return names


@pytest.mark.parametrize(
    ("dimension", "labels", "activation", "architecture", "patch"),
    [
        (2, 1, "sigmoid", "u-net", "16,16"),
        (2, 2, "softmax", "fcn", "16,16"),
        (3, 2, "sigmoid", "u-net", "4,16,16"),
    ],
)
def test_the_main_job(typed, tmp_path: Path, dimension, labels, activation, architecture, patch) -> None:
    images = " ".join(make_images(tmp_path, n_labels=labels))
    assert typed(f"run create-dataset train.hdf5 cells {labels}").status == 0
    added = typed(f"run add-sample train.hdf5 whole {images} --json")
    assert (added.status, added.json["sample"]) == (0, "whole")
    assert typed("run crop-sample train.hdf5 whole --z 0:4 --name first").status == 0
    assert typed("run info train.hdf5").status == 0
    assert typed("run check-dataset train.hdf5").status == 0
    made = typed(
        f"run create-model new.keras --like train.hdf5 --dimension {dimension} --depth 2 --filters 4 "
        f"--activation {activation} --architecture {architecture}"
    )
    assert made.status == 0, made.err
    trained = typed(
        "run train new.keras out.keras --train train.hdf5 --valid train.hdf5 --test train.hdf5 --epochs 2 "
        f"--steps-per-epoch 3 --validation-steps 2 --batch-size 2 --patch-size {patch} --json"
    )
    assert trained.status == 0, trained.err
    run = Path(trained.json["run"])
    assert {"run.json", "events.jsonl", "metrics.csv", "log.txt", "best.keras", "last.keras", "test.csv"} <= {
        path.name for path in run.iterdir()
    }
    assert len((run / "metrics.csv").read_text().splitlines()) == 3
    assert sorted(path.name for path in (run / "preview").iterdir()) == ["epoch-0001.npz", "epoch-0002.npz", "now.npz"]
    assert typed("run predict out.keras train.hdf5 predicted.hdf5 --quiet").status == 0
    scored = typed("run evaluate train.hdf5 predicted.hdf5 --csv scores.csv --json")
    assert scored.status == 0, scored.err
    assert (tmp_path / "scores.csv").read_text().startswith("label,sample,f1,iou")
    with h5py.File("predicted.hdf5") as file:
        assert set(file["whole"]) == {"image", *(f"prediction_{i:04}" for i in range(labels))}
    listed = typed("runs list --json").json["runs"]
    assert [(row["action"], row["state"]) for row in listed] == [("train", "finished"), ("predict", "finished")]
    assert typed("runs show latest").status == 0
    assert typed("runs watch latest").status == 0
    shown = typed("run preview predicted.hdf5 whole --reference train.hdf5 --style ascii --width 40")
    assert shown.status == 0, shown.err
    assert "hits" in shown.out


def test_a_plain_image_in_and_a_tiff_out(typed, tmp_path: Path) -> None:
    make_images(tmp_path, (33, 41))
    assert typed("run create-model m.keras --labels 2 --depth 2 --filters 2").status == 0
    assert typed("run predict m.keras image.tif out.tif").status == 0
    assert sorted(path.name for path in tmp_path.glob("out*")) == ["out_label_0000.tif", "out_label_0001.tif"]
    mask = tifffile.imread("out_label_0000.tif")
    assert mask.shape[-2:] == (33, 41)
    assert set(np.unique(mask)) <= {0, 255}


def test_parameters_from_a_file_and_the_command_line(typed, tmp_path: Path) -> None:
    (tmp_path / "model.toml").write_text('out = "a.keras"\nlabels = 1\ndepth = 2\nfilters = 4\n"kernel-size" = 3\n')
    made = typed("run create-model --from model.toml --filters 2 --json")
    assert made.status == 0, made.err
    assert Path("a.keras").exists()
    assert typed("run create-model --from model.toml --out b").status == 2
    (tmp_path / "model.toml").write_text("outt = 1")
    assert "outt" in typed("run create-model --from model.toml").err
    (tmp_path / "model.toml").write_text("out = ")
    assert typed("run create-model --from model.toml").status == 3
    assert typed("run create-model --from nothing.toml").status == 3


@pytest.mark.parametrize(
    ("line", "status", "words"),
    [
        ("run list", 2, ["runs list"]),
        ("run tran", 2, ["run train"]),
        ("runs lst", 2, ["runs list"]),
        ("rnu", 2, ["run"]),
        ("versio", 2, ["See: deepscem-tui --help"]),
        (".", 2, ["cd ., then deepscem-tui"]),
        ("run train a.keras", 2, ["OUT is missing", "--train is missing", "run train --help"]),
        ("run crop-sample a.hdf5 s --zz 3", 2, ["--zz"]),
        ("run train missing.keras out.keras --train missing.hdf5", 3, ["missing.keras"]),
        ("run add-sample missing.hdf5 s image.tif", 3, ["missing.hdf5"]),
        ("run info missing.hdf5", 3, ["missing.hdf5"]),
        ("run evaluate missing.hdf5 other.hdf5", 3, ["missing.hdf5"]),
        ("run create-dataset x.hdf5 x 2 3", 2, []),
        ("runs show nothing", 3, ["no run in runs", "--runs-dir"]),
        ("runs resume nothing", 3, ["no run in runs", "--runs-dir"]),
        ("run --train-model a b", 2, ["12"]),
        ("run --add-sample a b", 2, ["FILE NAME IMAGE"]),
        ("run --create-dataset a b 1 --colour red", 2, ["--colour"]),
    ],
)
def test_wrong_lines_end_in_a_message(typed, tmp_path: Path, line: str, status: int, words: list[str]) -> None:
    done = typed(line)
    assert done.status == status
    assert done.out == ""
    assert "Traceback" not in done.err
    assert all(word in done.err for word in words), done.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("line", "hint"),
    [
        ("run info axno.hdf5", "Did you mean axon.hdf5?"),
        ("run check-dataset ./axn.hdf5", "Did you mean axon.hdf5?"),
        ("run add-sample axno.hdf5 s cell.tif", "Did you mean axon.hdf5?"),
        ("run add-sample new.hdf5 s cell.tif", "Make it with: deepscem-tui run create-dataset"),
        ("run check-dataset new.hdf5", "Check its name and folder."),
        ("run predict models/liver.kera cell.tif out.tif", "Did you mean models/liver.keras?"),
        ("run predict nowhere/liver.kera cell.tif out.tif", "Check its name and folder."),
        ("run convert-image cel.tif out.mrc", "Did you mean cell.tif?"),
    ],
)
def test_a_mistyped_file_name_is_answered_with_the_nearest(typed, tmp_path: Path, line: str, hint: str) -> None:
    (tmp_path / "models").mkdir()
    for name in ("axon.hdf5", "models/liver.keras", "cell.tif"):
        (tmp_path / name).touch()
    done = typed(line)
    assert done.status in (2, 3)
    assert done.err.splitlines()[-1] == hint


def test_a_dry_run_warns_as_the_real_one(typed, tmp_path: Path) -> None:
    image = make_images(tmp_path, n_labels=1)[0]
    typed("run create-dataset d.hdf5 d 1")
    line = f"run add-sample d.hdf5 s {image} {image} --json"  # a grey image for a label
    dry, real = typed(f"{line} --dry-run"), typed(line)
    assert "every voxel above 0 is" in dry.json["warnings"][0]
    assert dry.json["warnings"] == real.json["warnings"]
    typed("run create-model m.keras --like d.hdf5 --depth 2 --filters 2")
    trained = typed("run train m.keras o.keras --train d.hdf5 --valid d.hdf5 --dry-run")
    assert (trained.status, "The validation data are the training data" in trained.err) == (0, True)


def test_nothing_is_overwritten_unasked(typed) -> None:
    assert typed("run create-dataset a.hdf5 a 1").status == 0
    before = Path("a.hdf5").read_bytes()
    again = typed("run create-dataset a.hdf5 b 2")
    assert (again.status, "--overwrite" in again.err) == (2, True)
    assert Path("a.hdf5").read_bytes() == before
    assert typed("run create-dataset a.hdf5 b 2 --overwrite").status == 0


def test_training_without_validation_gives_the_last_model(typed, tmp_path: Path) -> None:
    typed("run create-dataset d.hdf5 d 1")
    typed("run add-sample d.hdf5 s " + " ".join(make_images(tmp_path, n_labels=1)))
    typed("run create-model m.keras --like d.hdf5 --depth 2 --filters 2")
    line = "run train m.keras {} --train d.hdf5 --epochs 1 --steps-per-epoch 1 --batch-size 1 --json "
    for out, rest in (("a.keras", ""), ("b.keras", "--valid d.hdf5 --validation-steps 0"), ("c.h5", "--valid d.hdf5")):
        done = typed(line.format(out) + rest)
        assert done.status == 0, done.err
        assert Path(out).exists()
        assert ("best_epoch" in done.json) == (out == "c.h5")


def test_deepscem_flags_in_its_order_whatever_theirs_is(typed, tmp_path: Path) -> None:
    one, two = make_images(tmp_path, prefix="i3_1"), make_images(tmp_path, prefix="i3_2")
    assert typed("run create-model unet.h5 --labels 2 --depth 2 --filters 2").status == 0
    done = typed(
        "run --train-model unet.h5 trained.h5 I3.hdf5 V3.hdf5 Dice 2 1 16 16 2 1 1 "
        f"--add-sample I3.hdf5 i31 {' '.join(one)} "
        f"--add-sample V3.hdf5 i32 {' '.join(two)} --create-dataset I3.hdf5 I3 2 --create-dataset V3.hdf5 V3 2 "
        "--runs-dir elsewhere --json"
    )
    assert done.status == 0, done.err
    assert [step["action"] for step in done.json["steps"]] == [
        "create-dataset", "create-dataset", "add-sample", "add-sample", "train",
    ]  # fmt: skip
    assert Path("trained.h5").exists()
    assert len(list(tmp_path.glob("elsewhere/*"))) == 1
    assert typed("run --create-dataset I3.hdf5 I3 2").status == 2  # unlike DeepSCEM: nothing is overwritten unasked


def start_training(tmp_path: Path, typed, **streams) -> subprocess.Popen[bytes]:
    typed("run create-dataset d.hdf5 d 1")
    typed("run add-sample d.hdf5 s " + " ".join(make_images(tmp_path, n_labels=1)))
    typed("run create-model m.keras --like d.hdf5 --depth 2 --filters 2")
    line = "run train m.keras out.keras --train d.hdf5 --epochs 1000 --steps-per-epoch 5 --batch-size 1"
    process = subprocess.Popen([*PROGRAM, *line.split()], **(streams or {"stderr": subprocess.PIPE}))
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("runs/*/last.keras")):
        assert process.poll() is None, process.stderr.read() if process.stderr else ""
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return process


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")
def test_a_signal_stops_with_everything_saved_and_the_run_is_resumed(typed, tmp_path: Path) -> None:
    process = start_training(tmp_path, typed)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 75, said
    assert b"runs resume" in said
    assert not Path("out.keras").exists()
    (row,) = typed("runs list --json").json["runs"]
    assert row["state"] == "stopped"
    (run,) = tmp_path.glob("runs/*")
    epochs = len((run / "metrics.csv").read_text().splitlines()) - 1

    description = json.loads((run / "run.json").read_text())
    description["parameters"]["epochs"] = epochs + 1
    (run / "run.json").write_text(json.dumps(description))
    os.chdir(run)  # paths are found again from any folder
    done = typed(f"runs resume {run}")
    assert done.status == 0, done.err
    assert (tmp_path / "out.keras").exists()
    assert len((run / "metrics.csv").read_text().splitlines()) - 1 == epochs + 1


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such terminals")
def test_a_lost_terminal_stops_with_everything_saved(typed, tmp_path: Path) -> None:
    import pty

    ours, theirs = pty.openpty()
    process = start_training(tmp_path, typed, stderr=theirs, start_new_session=True)
    os.close(theirs)
    os.close(ours)  # whatever is written to the terminal fails from now on
    process.send_signal(signal.SIGHUP)
    assert process.wait(timeout=60) == 75
    (row,) = typed("runs list --json").json["runs"]
    assert row["state"] == "stopped"


def test_a_closed_pipe_does_not_end_the_work(tmp_path: Path) -> None:
    line = "run create-dataset d.hdf5 d 1; run info d.hdf5"
    for words in line.split("; "):
        read, write = os.pipe()
        os.close(read)
        done = subprocess.run([*PROGRAM, *words.split()], stdout=write, stderr=write, check=False, timeout=60)
        os.close(write)
        assert done.returncode == 0
    assert (tmp_path / "d.hdf5").exists()


@pytest.mark.parametrize("words", ["help", "help run evaluate", "version", "-V", "--version", "runs stop --help"])
def test_help_and_version_are_found_however_they_are_called(typed, words: str) -> None:
    done = typed(words)
    assert (done.status, done.err) == (0, "")
    assert done.out.strip().startswith("deepscem-tui 0." if words.lower().endswith(("v", "version")) else "Usage: ")
    assert "<bool>" not in done.out
    assert ("[required]" in done.out) == (len(words.split()) == 3)


def test_names_of_runs_are_completed(tmp_path: Path) -> None:
    for folder in ("runs/20260101-120000-train-a", "runs/20260102-120000-train-b", "other/20260103-120000-train-c"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "run.json").write_text("{}")

    def completed(line: str) -> list[str]:
        asked = {"_DEEPSCEM_TUI_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(line.count(" "))}
        done = subprocess.run(
            [sys.executable, "-m", "deepscem_tui"], env=os.environ | asked, capture_output=True, text=True, check=False
        )
        return done.stdout.split()

    assert completed("deepscem-tui runs show ") == ["latest", "20260102-120000-train-b", "20260101-120000-train-a"]
    assert completed("deepscem-tui runs stop 20260101") == ["20260101-120000-train-a"]
    assert completed("deepscem-tui runs show --runs-dir other 2") == ["20260103-120000-train-c"]


def test_help_that_nobody_reads_to_its_end_is_no_error() -> None:
    pipe = subprocess.PIPE
    with subprocess.Popen([*PROGRAM, "run", "train", "--help"], stdout=pipe, stderr=pipe) as help_:
        help_.stdout.close()
        assert (help_.wait(60), help_.stderr.read()) == (0, b"")


def test_an_interrupt_while_the_program_is_loaded_shows_no_traceback(tmp_path: Path) -> None:
    (tmp_path / "typer.py").write_text("raise KeyboardInterrupt")
    ended = subprocess.run(
        [sys.executable, "-m", "deepscem_tui"], env=os.environ | {"PYTHONPATH": str(tmp_path)}, capture_output=True
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, b"", b"")
