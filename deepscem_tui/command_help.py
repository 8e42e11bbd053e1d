"""What the help of our commands has in place of Typer's."""

from __future__ import annotations

from typing import Any

from typer.core import TyperCommand, TyperOption


class UntypedFlags:
    """A command or group whose help gives flags no type, since they take no value."""

    def get_params(self, ctx: Any) -> list[Any]:
        found: list[Any] = super().get_params(ctx)  # type: ignore[misc]
        for parameter in found:
            if isinstance(parameter, TyperOption) and parameter.is_flag:
                parameter.metavar = ""
        return found


class Command(UntypedFlags, TyperCommand):
    """A command of ours."""
