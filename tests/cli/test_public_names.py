"""`import sugarsearch`: the public names are there when used, and nothing heavy is loaded before."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

import sugarsearch as ss


@pytest.mark.parametrize("name", ss.__all__)
def test_every_public_name_is_what_its_home_defines(name: str) -> None:
    value = getattr(ss, name)
    assert name == "__version__" or value.__module__.startswith("sugarsearch.")
    assert name in dir(ss)


def test_search_is_the_function_also_after_its_package_was_imported() -> None:
    from sugarsearch.runs.results import StudyResult
    from sugarsearch.search.api import search

    assert ss.search is search
    assert StudyResult.__module__ == "sugarsearch.runs.results"


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'serch'"):
        ss.serch  # noqa: B018


def test_import_loads_nothing_heavy_and_surrogates_need_no_torch() -> None:
    code = (
        "import sys, sugarsearch as ss\n"
        "heavy = ('numpy', 'torch', 'sympy', 'optuna', 'matplotlib')\n"
        "assert not [name for name in heavy if name in sys.modules]\n"
        "assert abs(ss.surrogate('b_silu').gain - 1.3035) < 1e-4\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "PYTHONWARNINGS": ""})
