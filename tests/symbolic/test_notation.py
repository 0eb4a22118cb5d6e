"""Notations: a table that lacks an operator, or shows an argument not exactly once, is refused where it is made."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sugarsearch.symbolic import latex


@pytest.mark.parametrize("form", [None, "", "{0}", "{0} {1} {0}", "{0} {2}"])
def test_a_table_with_a_bad_form_is_refused(form: str | None) -> None:
    operators = {name: text for name, text in latex._LATEX.operators.items() if name != "add"}
    with pytest.raises(ValueError, match="'add'"):
        replace(latex._LATEX, operators=operators if form is None else {**operators, "add": form})


def test_an_operator_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValueError, match="'cbrt'"):
        replace(latex._LATEX, operators={**latex._LATEX.operators, "cbrt": "{0}"})
    with pytest.raises(ValueError, match="'cbrt'"):
        replace(latex._LATEX, cases=frozenset({"cbrt"}))
