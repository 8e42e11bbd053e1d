"""The action `package-model`: a model for the BioImage Model Zoo."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
import zipfile
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from deepscem_tui.engine import parameters as p
from deepscem_tui.engine import words
from deepscem_tui.engine.context import Context
from deepscem_tui.engine.errors import DataError, ModelError, ParameterError
from deepscem_tui.engine.models.info import ModelInfo, read_network
from deepscem_tui.engine.results import Result, Table
from deepscem_tui.engine.sharing.description import Facts, described, patch_sides
from deepscem_tui.engine.sharing.onnx_files import Shared, check_room, check_same, load_shared, write_onnx
from deepscem_tui.engine.sharing.page import page
from deepscem_tui.engine.sharing.patch import Patch, cut_patch, origin_of
from deepscem_tui.engine.system import extras
from deepscem_tui.engine.system.files import check_writable, published, refuse_existing
from deepscem_tui.engine.viewing.picture_files import LABEL_COLOURS, write_png

__all__ = ["package_model"]

_FILES = ("model.onnx", "test_input.npy", "test_output.npy", "cover.png")


def package_model(parameters: p.PackageModel, context: Context) -> Result:
    """Make a package, and have the zoo's own validator read, compute and judge it.

    Raises:
        ParameterError: for a name that a package cannot have, or one that stands for nothing.
        MissingLibraryError: for want of the libraries of the extra ``bioimageio``.
        ModelError: for a model that cannot be read, or a package that the validator refuses.
        DataError: for an image that cannot be read, or a package that cannot be written.
        ResourceError: for a network that no ONNX file can hold, or the memory.
    """
    out = parameters.out
    if out.suffix != ".zip":
        raise ParameterError(f"{out} does not end in .zip", "Name the package .zip.", "out")
    refuse_existing(out, parameters.overwrite)
    info, graph = read_network(parameters.model)
    check_room(parameters.model, graph, patch_sides(info)[3 - info.dimension :])
    for library in ("onnx", "onnxruntime", "bioimageio.core"):
        extras.check(library, "bioimageio", "Making a model package")
    check_writable(out.parent)
    origin = origin_of(parameters.image, parameters.sample, context)
    missing = Table("missing", ("option", "why"), _missing(parameters))
    if parameters.dry_run:
        planned = {"package": str(out), "test_patch": origin}
        return Result(f"Would package {parameters.model} as {out}", planned, [missing])
    patch = cut_patch(info, patch_sides(info), parameters.image, parameters.sample, context)
    context.stop.check()
    shared = load_shared(parameters.model)
    with tempfile.TemporaryDirectory(prefix="deepscem-tui-") as folder:
        facts, difference = _fill(Path(folder), parameters, shared, patch, context)
        try:
            with published(out) as temporary:
                _pack(Path(folder), (*_FILES, facts.original, "README.md", "bioimageio.yaml"), temporary)
                context.stop.check()
                context.report.message("The zoo's validator computes the test patch, and patches of other sizes")
                _validate(temporary, out)
        except OSError as error:
            raise DataError(f"{out} cannot be written: {error.strerror or error}", "Is the folder yours?") from None
    summary = f"Packaged {parameters.model} as {out}: the zoo's validator accepts it"
    if missing.rows:
        summary += f"; {words.counted(len(missing.rows), 'thing')} to add before you publish it"
    written = {
        "package": str(out),
        "test_patch": patch.origin,
        "test_shape": list(patch.image.shape),
        "largest_difference": difference,
        "bytes": out.stat().st_size,
    }
    return Result(summary, written, [missing])


def _fill(
    folder: Path, parameters: p.PackageModel, shared: Shared, patch: Patch, context: Context
) -> tuple[Facts, float]:
    """Write the package's files to a folder; give what is said of the model, and how well its ONNX file agrees."""
    context.report.message("Writing the network as ONNX, and computing a patch with it and with Keras")
    write_onnx(shared, folder / "model.onnx")
    difference = check_same(shared, folder / "model.onnx", parameters.out)
    context.stop.check()
    result = shared.compute(patch.normalised)
    np.save(folder / "test_input.npy", patch.image)
    np.save(folder / "test_output.npy", result)
    write_png(folder / "cover.png", _cover(shared.info, patch.normalised, result))
    original = f"model{parameters.model.suffix}"
    shutil.copyfile(parameters.model, folder / original)
    facts = Facts(
        name=parameters.name or _name(parameters.model),
        description=parameters.description or _description(shared.info),
        authors=parameters.author,
        license=parameters.license or "",
        citations=parameters.cite,
        origin=patch.origin,
        when=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        checksums={name: _checksum(folder / name) for name in (*_FILES, original)},
        original=original,
    )
    (folder / "README.md").write_text(page(shared.info, facts), encoding="utf-8")
    text = json.dumps(described(shared.info, facts), indent=2, ensure_ascii=False)  # YAML in JSON's way of writing it
    (folder / "bioimageio.yaml").write_text(text, encoding="utf-8")
    return facts, difference


def _name(model: Path) -> str:
    """A name that the zoo takes, from that of the file."""
    letters = "".join(letter if letter.isascii() and letter.isalnum() else " " for letter in model.stem)
    return f"{' '.join(letters.split())[:100]} EM segmentation".strip()


def _description(info: ModelInfo) -> str:
    return f"Segments {', '.join(info.label_names)} in {info.dimension}D images of electron microscopes"[:1024]


def _cover(info: ModelInfo, image: npt.NDArray[Any], result: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """The middle slice beside the same with what is predicted on it, red, green and blue (Y, 2 X, 3)."""
    grey, values = image[0, info.context if info.dimension == 2 else 0], result[0, : info.n_labels]
    if info.dimension == 3:
        grey, values = grey[len(grey) // 2], values[:, values.shape[1] // 2]
    plain = np.repeat(255 * grey[..., None], 3, axis=-1)
    painted = plain.copy()
    for index, threshold in enumerate(info.thresholds or (0.5,) * info.n_labels):
        mask = values[index] > threshold
        painted[mask] = 0.5 * painted[mask] + 0.5 * np.array(LABEL_COLOURS[index % len(LABEL_COLOURS)], np.float32)
    return np.concatenate([plain, painted], axis=1).round().astype(np.uint8)


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def _pack(folder: Path, names: tuple[str, ...], path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            archive.write(folder / name, name)


def _validate(path: Path, known_as: Path) -> None:
    """Let bioimageio.core read the package, compute its test patch, and patches of other sizes.

    Raises:
        ModelError: it finds anything wrong.
    """
    core = extras.load("bioimageio.core", "bioimageio", "Checking a model package")
    summary = core.load_description_and_test(path).validation_summary
    if summary.status == "passed":
        return
    said: dict[Any, str] = {}  # the first complaint of each entry: there is one for each kind that it could have been
    for error in (error for detail in summary.details for error in detail.errors):
        said.setdefault(error.loc[:1], _said(error))
    reason = "; ".join(said.values())[:500] or summary.status
    raise ModelError(
        f"{known_as} is not written, since the zoo's validator refuses it ({reason})",
        "Change what it names; if that is none of yours: pip install -U bioimageio.core bioimageio.spec",
    )


def _said(error: Any) -> str:
    """A complaint of the validator in a line, such as ``authors 0 orcid: ...``."""
    where = " ".join(str(part) for part in error.loc if str(part).replace("_", "").isalnum())
    what = str(error.msg).strip().partition("\n")[0]
    return f"{where}: {what}"[:150] if where else what[:150]


def _missing(parameters: p.PackageModel) -> list[tuple[str, str]]:
    """What the zoo or its readers want, and is not given."""
    wanted = (
        ("license", "the zoo takes no model without a licence"),
        ("cite", "the zoo wants to know what to cite: a paper, or the data that it learned from"),
        ("description", "one sentence of yours says more than the labels' names"),
        ("image", "a patch of a real image shows what the model does; made-up cells do not"),
    )
    return [(f"--{name}", why) for name, why in wanted if not getattr(parameters, name)]
