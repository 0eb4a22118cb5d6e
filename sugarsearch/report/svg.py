"""A picture as part of a page: SVG whose colours follow the page's, light or dark."""

from __future__ import annotations

import re
from collections.abc import Mapping
from html import escape
from types import MappingProxyType
from typing import Final

from matplotlib.figure import Figure

from sugarsearch.report import style

_VARIABLES: Mapping[str, str] = MappingProxyType({colour: f"--c{colour[1:].lower()}" for colour in style.DARK})
_COLOUR: Final = re.compile(r"#[0-9a-fA-F]{6}\b")
_ID: Final = re.compile(r'(\bid="|href="#|url\(#)')


def inline(figure: Figure, name: str, description: str) -> str:
    """The `<svg>` element of a figure for use inside a page.

    Args:
        figure: drawn in the colours of `style` alone.
        name: a word that no other picture of the page has; ids begin with it.
        description: read aloud in place of the picture.
    """
    text = style.svg(figure)
    body = text[text.index("<svg") :]
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
    # matplotlib's style element would hold for the whole page, which has the rule for its pictures itself.
    body = re.sub(r"<style.*?</style>", "", body, flags=re.DOTALL)
    body = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", body, count=1)
    body = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", body, count=1)
    body = _ID.sub(lambda match: f"{match.group()}{name}-", body)
    body = body.replace(f"font-family: '{style.FONT}'", "font-family: inherit")
    body = _COLOUR.sub(lambda match: _variable(match.group()), body)
    return body.replace("<svg", f'<svg role="img" aria-label="{escape(description)}"', 1)


def theme(dark: bool) -> str:
    """CSS declarations of the pictures' colours."""
    chosen = ((name, style.DARK[colour] if dark else colour) for colour, name in _VARIABLES.items())
    return " ".join(f"{name}: {colour};" for name, colour in chosen)


def _variable(colour: str) -> str:
    return f"var({_VARIABLES[colour.upper()]})"
