"""In a notebook, run by a real kernel: a surrogate shows formula and plot, and a search its progress."""

from __future__ import annotations

import io
import re
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

import sugarsearch as ss
from sugarsearch.report import notebook
from sugarsearch.runs.observer import Silent
from sugarsearch.symbolic.library import LIBRARY

SEARCH = """
import torch, sugarsearch as ss
x, y = torch.randn(60, 4), torch.arange(60) % 3
def net():
    return torch.nn.Sequential(torch.nn.Linear(4, 6), torch.nn.ReLU(), torch.nn.Linear(6, 3))
recipe = {"epochs": 1, "batch_size": 20}
result = ss.search(net, (x, y), (x, y), "gate", recipe, trials=6, batch=2, population=4, run="run",
                   learning_rates=[0.1], device="cpu", threads=1, mode="eager")
"""


@pytest.mark.parametrize("text", [*LIBRARY, "3.1*sigmoid(2*x)*softsign(x)", "0.5 if x > 1 else exp(-abs(x))"])
def test_a_surrogate_is_one_well_formed_element(text: str) -> None:
    g = ss.surrogate(text)
    html = g._repr_html_()
    element = ET.fromstring(html.replace("<br>", "<br/>").replace("&nbsp;", " "))
    tags = [part.tag.rpartition("}")[2] for part in element.iter()]
    assert element.tag == "div"
    assert tags.count("svg") == 1
    assert tags.count("math") == 1
    assert f"gain {g.gain:.4g}" in html
    links = re.findall(r'(?:src|href)="(?!#)([^"]*)', html)
    assert links == []
    assert len(html) < 60_000


def test_two_surrogates_on_one_page_share_no_ids() -> None:
    ids = [set(re.findall(r'\bid="([^"]+)"', ss.surrogate(text)._repr_html_())) for text in ("b_silu", "sigmoid(x)")]
    assert ids[0]
    assert ids[1]
    assert not ids[0] & ids[1]


def cells(folder: Path, *sources: str) -> list[list[dict[str, Any]]]:
    """The outputs of each cell."""
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in sources])
    nbclient.NotebookClient(book, timeout=100, resources={"metadata": {"path": str(folder)}}).execute()
    return [cell.outputs for cell in book.cells]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # Jupyter's own
def test_a_kernel_shows_formula_and_progress(tmp_path: Path) -> None:
    shown, searched = cells(tmp_path, "import sugarsearch as ss\nss.surrogate('b_silu')", SEARCH)
    html = shown[0]["data"]["text/html"]
    assert "<math>" in html
    assert "<svg" in html
    # Written in one place, from the first to the last; tqdm, which Optuna loads, may advise on widgets beside it.
    (progress,) = [output for output in searched if output["output_type"] != "stream"]
    text = progress["data"]["text/plain"]
    assert "study mine" in text
    assert "6 of 6" in text
    assert "best so far" in text
    assert "finished after" in text


def test_progress_is_shown_where_somebody_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    with notebook.watch_here() as observer:
        assert isinstance(observer, Silent)  # pytest has taken the terminal away
    terminal = Console(file=io.StringIO(), force_terminal=True, width=90)
    monkeypatch.setattr(notebook, "Console", lambda stderr: terminal)
    with notebook.watch_here() as observer:
        observer.stage("screening", 3, 8)
    assert isinstance(terminal.file, io.StringIO)
    assert "3 of 8" in terminal.file.getvalue()
