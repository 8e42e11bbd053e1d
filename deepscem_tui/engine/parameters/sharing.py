"""Actions that make of a model what other programs use."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator

from deepscem_tui.engine.parameters.kinds import Writing, argument, option


def _one_line(value: str) -> str:
    """A text without what no line can hold."""
    text = value.strip()
    if not text or not text.isprintable():
        raise ValueError("must be a text of one line")
    return text


def _title(value: str) -> str:
    text = _one_line(value)
    if not re.fullmatch(r"[A-Za-z0-9_+\- ()]{5,128}", text):
        raise ValueError("must be 5 to 128 letters, digits, spaces, and _ + - ( )")
    return text


def _author(value: str) -> str:
    """``NAME``, ``NAME; INSTITUTE`` or ``NAME; INSTITUTE; ORCID``."""
    name, *further = (part.strip() for part in _one_line(value).split(";"))
    if not name or "/" in name or len(further) > 2:
        raise ValueError('must be "NAME", "NAME; INSTITUTE" or "NAME; INSTITUTE; ORCID"')
    if len(further) == 2 and not re.fullmatch(r"(\d{4}-){3}\d{3}[\dX]", further[1]):
        raise ValueError(f"must have an ORCID such as 0000-0002-1825-0097 at its end (it is {further[1]!r})")
    return "; ".join((name, *further))


def _somebody(value: tuple[str, ...]) -> tuple[str, ...]:
    if not value:
        raise ValueError("must name somebody")
    return value


def _citation(value: str) -> str:
    """``TEXT; DOI``."""
    text, _, doi = _one_line(value).rpartition(";")
    doi = re.sub(r"^(https?://)?(dx\.)?(doi\.org/|doi:)", "", doi.strip())
    if not text.strip() or not re.fullmatch(r"10\.\d{4,}\S+", doi):
        raise ValueError('must be "TEXT; DOI", such as "Title of the paper; 10.1234/abcd"')
    return f"{text.strip()}; {doi}"


class ExportModel(Writing):
    """Write a model as an ONNX file, which other programs compute without TensorFlow.

    It is checked: onnxruntime's results must agree with those of Keras to 0.0001.
    Labels, thresholds, normalisation and voxel size stand in the file as metadata.
    """

    model: Path = argument("Model to read (.keras or .h5).", opens="model")
    out: Path = argument("ONNX file to make (.onnx).", makes="onnx")


class PackageModel(Writing):
    """Make a model package for the BioImage Model Zoo (bioimage.io), as a ZIP file.

    It holds the network as ONNX, a patch of an image with what must come of it, a picture, and a page about the model.
    The zoo's own validator checks it, offline.
    """

    model: Path = argument("Model to read (.keras or .h5).", opens="model")
    out: Path = argument("Package to make (.zip).", makes="package")
    author: Annotated[tuple[Annotated[str, AfterValidator(_author)], ...], AfterValidator(_somebody)] = option(
        ...,
        "Who made it: NAME, or NAME; INSTITUTE, or NAME; INSTITUTE; ORCID; may be repeated, in a form with | between.",
        title="Authors",
        joined="|",
    )
    image: Path | None = option(
        None,
        "Data set or image that the test patch and the picture are cut from, where it is centred; best one that you "
        "may publish, and that the model has not learned from.",
        opens="dataset or image",
        otherwise="made-up cells",
    )
    sample: str | None = option(None, "Sample of the data set.", within="image.samples", otherwise="the first")
    name: Annotated[str, AfterValidator(_title)] | None = option(
        None, "Of the model; 5 to 128 letters, digits, spaces, and _ + - ( ).", otherwise="from the file's name"
    )
    description: Annotated[str, AfterValidator(_one_line)] | None = option(
        None, "What it segments, in which images; one sentence.", otherwise="from the labels", max_length=1024
    )
    license: Annotated[str, AfterValidator(_one_line)] | None = option(
        None, "Licence as SPDX names it, such as CC-BY-4.0 or MIT; the zoo takes no model without.", otherwise="none"
    )
    cite: tuple[Annotated[str, AfterValidator(_citation)], ...] = option(
        (),
        "What to cite: TEXT; DOI; may be repeated, in a form with | between.",
        title="Citations",
        otherwise="none",
        joined="|",
    )
