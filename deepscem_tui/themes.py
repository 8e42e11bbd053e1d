"""Themes that Textual does not bring: high contrast, for a projector or tired eyes."""

from __future__ import annotations

from textual.theme import Theme

THEMES = (
    Theme(
        name="high-contrast",
        primary="#ffff00",
        secondary="#00ffff",
        accent="#ffff00",
        warning="#ffb000",
        error="#ff6060",
        success="#00ff00",
        foreground="#ffffff",
        background="#000000",
        surface="#000000",
        panel="#1a1a1a",
        dark=True,
        variables={
            "border": "#ffffff",
            "border-blurred": "#a0a0a0",
            "footer-key-foreground": "#ffff00",
            "text-muted": "#ffffff",
            "text-disabled": "#c0c0c0",
            "block-cursor-background": "#ffff00",
            "block-cursor-foreground": "#000000",
            "input-selection-background": "#ffff00 40%",
        },
    ),
)
