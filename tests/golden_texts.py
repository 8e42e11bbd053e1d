"""Golden texts: what a screen or a drawing looked like when somebody looked at it."""

from pathlib import Path

GOLDENS = Path(__file__).parent / "goldens"


class Golden:
    """Texts that were looked at once, in tests/goldens."""

    def __init__(self, update: bool) -> None:
        self._update = update

    def agrees(self, name: str, text: str) -> bool:
        """Whether a text is as in NAME.txt; when goldens are written anew all are."""
        path = GOLDENS / f"{name}.txt"
        return self._update or (path.exists() and _trimmed(text) == path.read_text(encoding="utf-8"))

    def __call__(self, name: str, text: str) -> None:
        """Compare a text with NAME.txt, or write that anew."""
        path = GOLDENS / f"{name}.txt"
        if self._update:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(_trimmed(text), encoding="utf-8")
        assert path.exists(), f"{path} is missing: run pytest --update-goldens, and look at it"
        assert _trimmed(text) == path.read_text(encoding="utf-8")


def _trimmed(text: str) -> str:
    return "\n".join(line.rstrip() for line in text.splitlines()) + "\n"
