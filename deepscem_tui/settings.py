"""What the user chose and typed last, kept between sessions in the places that XDG names."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import platformdirs
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from deepscem_tui.engine.system.files import write_text

_APPLICATION = "deepscem-tui"
_FOLDERS = 100  # whose forms are remembered


class Settings(BaseModel):
    """Preferences; a file that cannot be read, or a value that cannot be right, means the defaults."""

    model_config = ConfigDict(extra="ignore", validate_assignment=True)

    theme: str = "textual-dark"
    safe_mode: bool = True
    bell: bool = True
    pictures: Literal["auto", "blocks", "ascii"] = "auto"
    folders: dict[str, dict[str, dict[str, Any]]] = Field(default_factory=dict)  # forms by folder and action

    @classmethod
    def load(cls) -> Settings:
        try:
            return cls.model_validate_json(settings_file().read_text(encoding="utf-8"))
        except (OSError, ValidationError, ValueError):
            return cls()

    def save(self) -> None:
        """Keep them; a home that cannot be written is not worth an error."""
        with suppress(OSError):
            settings_file().parent.mkdir(parents=True, exist_ok=True)
            write_text(settings_file(), json.dumps(self.model_dump(mode="json"), indent=2, ensure_ascii=False) + "\n")

    def remembered(self, folder: Path, action: str) -> dict[str, Any]:
        """What a form was sent with the last time that it was about this folder."""
        return dict(self.folders.get(str(folder.absolute()), {}).get(action, {}))

    def remember(self, folder: Path, action: str, values: Mapping[str, Any]) -> None:
        """Keep what a form was sent with, for the next time in this folder; those used longest ago are forgotten."""
        forms = self.folders.pop(str(folder.absolute()), {})
        kept = list(self.folders.items())[-(_FOLDERS - 1) :]
        self.folders = dict([*kept, (str(folder.absolute()), {**forms, action: dict(values)})])
        self.save()


def settings_file() -> Path:
    """Where preferences are: ``$XDG_CONFIG_HOME/deepscem-tui/settings.json``."""
    return platformdirs.user_config_path(_APPLICATION) / "settings.json"


def report_folder() -> Path:
    """Where reports of bugs go: ``$XDG_STATE_HOME/deepscem-tui``, which outlasts a node's temporary files."""
    return platformdirs.user_state_path(_APPLICATION)


def log_file() -> Path:
    """Where what libraries print goes while the application runs: ``$XDG_STATE_HOME/deepscem-tui/log.txt``."""
    return platformdirs.user_state_path(_APPLICATION) / "log.txt"
