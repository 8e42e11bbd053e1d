"""Libraries of extras: loaded where they are, and named with the command that installs them where they are not."""

import json
import sys

import pytest

from deepscem_tui.engine.errors import MissingLibraryError
from deepscem_tui.engine.system import extras


def test_a_library_that_is_there_is_loaded():
    assert extras.load("json", "zarr", "Reading") is json


def test_a_missing_one_says_what_to_type():
    with pytest.raises(MissingLibraryError) as caught:
        extras.load("no_such_library_here", "zarr", "Reading a Zarr store")
    assert "Reading a Zarr store needs the library no_such_library_here" in caught.value.what
    assert caught.value.hint.endswith("pip install 'deepscem-tui[zarr]'")
    assert caught.value.exit_code == 4


def test_a_library_is_looked_for_without_importing_it() -> None:
    sys.modules.pop("this", None)
    extras.check("this", "zarr", "Reading")
    assert "this" not in sys.modules
    for missing in ("no_such_library_here", "no_such_library_here.part"):
        with pytest.raises(MissingLibraryError, match=rf"Reading needs the library {missing}, .*'deepscem-tui\[n5\]'"):
            extras.check(missing, "n5", "Reading")
