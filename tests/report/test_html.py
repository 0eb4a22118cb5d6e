"""report.html as a person meets it: in a real browser, at two widths, light and dark, by keyboard; and its text."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from sugarsearch.report import build, style, svg
from sugarsearch.report.figures import surrogate_figure
from sugarsearch.runs.load import load_study
from sugarsearch.runs.results import ScreeningRow, StudyResult
from sugarsearch.symbolic.library import surrogate

RESULTS = Path(__file__).resolve().parents[2] / "docs" / "results"
KEPT = sorted(path.parent.name for path in RESULTS.glob("*/results.json"))
HOSTILE = '</script><script>alert("x")</script> & <b>{{ 7 * 7 }}</b>'


@pytest.fixture(scope="session")
def report(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder with the report of a kept result, by its name; written once."""
    made: dict[str, Path] = {}

    def write(name: str) -> Path:
        if name not in made:
            made[name] = tmp_path_factory.mktemp(name)
            build.write_report(StudyResult.load(RESULTS / name / "results.json"), made[name])
        return made[name]

    return write


@pytest.fixture(scope="module")
def page(report: Callable[[str], Path]) -> str:
    return (report("quickstart") / "report.html").as_uri()


OUTSIDE = """
[...document.querySelectorAll("body *")]
  .filter((element) => !element.parentElement.closest(".scroll, svg"))
  .filter((element) => element.getBoundingClientRect().right > innerWidth + 1)
  .map((element) => `${element.tagName} ${element.id} ${element.className}`)
"""


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [400, 1400])
@pytest.mark.parametrize("name", KEPT)
def test_a_page_opens_without_an_error_a_request_or_an_overflow(
    browser: Any, report: Callable[[str], Path], name: str, width: int, dark: bool
) -> None:
    address = (report(name) / "report.html").as_uri()
    browser.open(address, width, dark=dark)
    browser.run("document.querySelectorAll('details').forEach((element) => { element.open = true; })")
    assert browser.errors == []
    assert browser.requests == [address]
    assert browser.run("document.documentElement.scrollWidth <= innerWidth")
    assert browser.run(OUTSIDE) == []


def column(browser: Any, table: str, index: int) -> list[str]:
    return list(
        browser.run(f"[...document.querySelectorAll('#{table} tbody tr')].map((r) => r.cells[{index}].innerText)")
    )


def test_a_click_sorts_numbers_by_value_and_again_backwards(browser: Any, page: str) -> None:
    browser.open(page)
    before = [float(text) for text in column(browser, "table-candidates", 1)]
    head = "document.querySelectorAll('#table-candidates th')[1]"
    browser.run(f"{head}.querySelector('button').click()")
    assert [float(text) for text in column(browser, "table-candidates", 1)] == sorted(before) != before
    assert browser.run(f"{head}.getAttribute('aria-sort')") == "ascending"
    browser.run(f"{head}.querySelector('button').click()")
    assert [float(text) for text in column(browser, "table-candidates", 1)] == sorted(before, reverse=True)
    assert browser.run(f"{head}.getAttribute('aria-sort')") == "descending"


def test_every_column_of_every_table_sorts_and_keeps_its_rows(browser: Any, page: str) -> None:
    browser.open(page)
    assert browser.run("document.querySelectorAll('table.sortable').length") >= 5
    script = """
    [...document.querySelectorAll("table.sortable")].every((table) => {
      const rows = () => [...table.tBodies[0].rows].map((row) => row.innerText).sort().join("\\n");
      const before = rows();
      return [...table.querySelectorAll("th button")].every((button) => { button.click(); return rows() === before; });
    })
    """
    assert browser.run(script) is True
    assert browser.errors == []


def test_empty_cells_stay_last_whichever_way_it_is_sorted(browser: Any, page: str) -> None:
    browser.open(page)
    index = browser.run(
        "[...document.querySelectorAll('#table-final th')].findIndex((h) => h.innerText.includes('against'))"
    )
    for _ in range(2):
        browser.run(f"document.querySelectorAll('#table-final th button')[{index}].click()")
        cells = column(browser, "table-final", index)
        assert cells[-1] == ""
        assert all(cells[:-1])


def test_the_keyboard_alone_sorts_and_filters(browser: Any, page: str) -> None:
    browser.open(page)
    browser.run("document.querySelector('#table-candidates th button').focus()")
    browser.press("Enter", "\r")
    browser.press("Enter", "\r")
    assert column(browser, "table-candidates", 0) == [str(index) for index in reversed(range(80))]
    browser.run("document.querySelector('#find').focus()")
    browser.type("random atan")
    shown = browser.run(
        "[...document.querySelectorAll('#table-candidates tbody tr')].filter((r) => !r.hidden).map((r) => r.innerText)"
    )
    assert 0 < len(shown) < 80
    assert all("random" in text and "atan" in text for text in shown)
    assert browser.run("document.querySelector('#shown').value") == f"{len(shown)} of 80"
    browser.press("Enter", "\r")
    assert browser.run("location.search") == "", "Enter must not send the form"


def test_a_status_can_be_picked(browser: Any, report: Callable[[str], Path]) -> None:
    browser.open((report("cifar10_small") / "report.html").as_uri())
    browser.run("""(() => {
      const status = document.querySelector("#status");
      status.value = "PRUNED";
      status.dispatchEvent(new Event("input", { bubbles: true }));
    })()""")
    assert browser.run("document.querySelector('#shown').value") == "17 of 24"


def test_formulas_are_typeset_and_pictures_have_the_pages_colours(browser: Any, page: str) -> None:
    ink = "getComputedStyle(document.querySelector('#figure-surrogates text')).fill"
    paper = "getComputedStyle(document.body).backgroundColor"
    seen = {}
    for dark in (False, True):
        browser.open(page, dark=dark)
        seen[dark] = browser.run(ink), browser.run(paper)
        box = browser.run(
            "(({width, height}) => [width, height])(document.querySelector('.card math').getBoundingClientRect())"
        )
        assert box[0] > 50
        assert box[1] > 10
    assert seen[False][0] == "rgb(0, 0, 0)"
    assert all(brightness(seen[True][0]) > 200 > 60 > brightness(colour) for colour in [seen[True][1]])
    assert brightness(seen[False][1]) > 200


def brightness(colour: str) -> float:
    return sum(map(float, re.findall(r"[\d.]+", colour)[:3])) / 3


def test_a_dark_picture_shows_light_lines(browser: Any, page: str, tmp_path: Path) -> None:
    browser.open(page, dark=True)
    browser.screenshot(tmp_path / "page.png")
    with Image.open(tmp_path / "page.png") as image:
        darkest = image.convert("L").histogram()
        assert image.height > 2000
        assert sum(darkest[:64]) > 0.8 * image.width * image.height
        assert sum(darkest[200:]) > 2000


class Ids(HTMLParser):
    """Collects ids and references of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.sources: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name == "id":
                self.ids.append(value or "")
            if name in ("href", "xlink:href"):
                self.links.append(value or "")
            if name in ("src", "srcset", "data"):
                self.sources.append(value or "")


@pytest.mark.parametrize("name", KEPT)
def test_ids_are_unique_and_links_lead_somewhere(report: Callable[[str], Path], name: str) -> None:
    folder = report(name)
    parser = Ids()
    parser.feed((folder / "report.html").read_text())
    assert len(set(parser.ids)) == len(parser.ids)
    assert parser.sources == []
    for link in parser.links:
        if link.startswith("#"):
            assert link[1:] in parser.ids
        elif not link.startswith("data:"):
            assert (folder / link).is_file(), link


def of(**changes: Any) -> StudyResult:
    return dataclasses.replace(StudyResult.load(RESULTS / "quickstart" / "results.json"), **changes)


def text_of(result: StudyResult, folder: Path) -> str:
    build.write_report(result, folder)
    return (folder / "report.html").read_text()


def test_text_from_outside_is_shown_and_not_run(browser: Any, tmp_path: Path) -> None:
    config = load_study("quickstart").model_dump(mode="json") | {"description": HOSTILE}
    rows = [
        dataclasses.replace(row, status="CRASHED", reason=HOSTILE, origin=HOSTILE) if row.index == 5 else row
        for row in of().screening
    ]
    result = of(config=config, screening=rows, note=HOSTILE, device=HOSTILE)
    text = text_of(result, tmp_path)
    assert "alert(" not in re.sub(r"&lt;/script&gt;&lt;script&gt;alert\(", "", text)
    browser.open((tmp_path / "report.html").as_uri())
    assert browser.errors == []
    assert HOSTILE in browser.run("document.querySelector('#table-failures').innerText")
    assert HOSTILE in browser.run("document.querySelector('.cautions').innerText")


def test_the_settings_in_the_page_are_a_study_that_can_be_run(browser: Any, page: str, tmp_path: Path) -> None:
    browser.open(page)
    saved = browser.run("atob(document.querySelector('a[download]').href.split(',')[1])")
    assert saved == browser.run("document.querySelector('#settings details pre').textContent")
    (tmp_path / "study.yaml").write_text(saved)
    study, asked = load_study(tmp_path / "study.yaml").model_dump(mode="json"), of().config
    assert {name: study[name] for name in ("space", "recipe")} == {name: asked[name] for name in ("space", "recipe")}
    command = browser.run("document.querySelector('#command').textContent")
    assert command == "sugarsearch search runs/quickstart/study.yaml --run runs/quickstart-again"


def test_the_sections_come_in_the_order_in_which_they_are_asked_for(report: Callable[[str], Path]) -> None:
    text = (report("quickstart") / "report.html").read_text()
    order = ["verdict", "surrogates", "evidence", "search", "activity", "importances", "candidates", "settings"]
    assert re.findall(r'<section id="(\w+)"', text) == order
    for row in json.loads((RESULTS / "quickstart" / "results.json").read_text())["final"]["rows"]:
        assert f"{100 * row['summary']['mean']:.1f}" in text
        assert row["difference"] is None or f"{100 * row['difference']['mean']:+.1f}" in text


def test_a_verdict_comes_first_with_its_explanation_comparisons_and_optimism(tmp_path: Path) -> None:
    final = json.loads(json.dumps(of().final))
    found, relu = final["rows"][0]["label"], "relu"
    verdict_of = {
        "kind": "explained_by_gain", "phrase": "explained by gain", "sentence": "best found: explained by gain.",
        "explanation": "Nothing excludes its gain.", "finalist": found, "detectable": 0.02, "n": 100,
        "comparisons": [
            {"arm": found, "against": relu, "control": "relu", "rate": 0.004, "against_rate": 0.004,
             "mean": 0.043, "low": 0.021, "high": 0.068, "p": 0.0001, "p_holm": 0.0003, "n": 100, "paired": True}
        ],
        "at_same_rate": [{"rate": 0.004, "mean": 0.04, "low": 0.01, "high": 0.07, "p_holm": 0.02, "n": 20}],
    }  # fmt: skip
    final["verdicts"] = [verdict_of]
    final["optimism"] = {"promised": 0.064, "shown": 0.043, "points": 2.1, "sd": None}
    row = {"label": found, "surrogate": final["rows"][0]["surrogate"], "learning_rate": 0.01, "screening": 0.895}
    final["rerun"] = [{**row, "scores": {"0": 0.8, "1": 0.9}}]
    activity = [{"dead_units": [0.1, 0.2], "sparsity": [0.5, 0.6]} for _ in final["rows"]]
    text = text_of(of(final=final, activity=activity), tmp_path)
    verdict = text[text.index('id="verdict" class="explained_by_gain"') : text.index('id="surrogates"')]
    for part in ("explained by gain", "Nothing excludes its gain.", "+2.1 to +6.8", "&lt; 0.001", "optimism +2.1"):
        assert part in verdict
    assert "85.0" in verdict, "the mean of the re-run"
    assert 'id="figure-activity"' in text
    for name in ("comparisons", "same_rate", "rerun"):
        assert (tmp_path / "tables" / f"{name}.csv").is_file()


def test_what_an_earlier_report_had_and_this_one_has_not_is_removed(tmp_path: Path) -> None:
    build.write_report(of(), tmp_path)
    (tmp_path / "figures" / ".hidden").write_text("somebody's")
    assert (tmp_path / "tables" / "final.csv").is_file()
    build.write_report(of(final=None), tmp_path)
    assert not (tmp_path / "tables" / "final.csv").exists()
    assert not (tmp_path / "figures" / "seeds.svg").exists()
    assert (tmp_path / "figures" / ".hidden").is_file()


def test_a_study_without_a_final_table_or_a_finished_candidate_has_a_page(tmp_path: Path) -> None:
    assert "nothing is claimed" in text_of(of(final=None), tmp_path)
    failed: list[ScreeningRow] = [dataclasses.replace(row, status="DIVERGED", reason="inf") for row in of().screening]
    assert "DIVERGED" in text_of(of(final=None, screening=failed), tmp_path)


def test_a_picture_in_a_page_has_colours_of_the_theme_alone() -> None:
    text = svg.inline(surrogate_figure(surrogate("b_silu")), "mine", 'a "picture"')
    assert not re.search(r"#[0-9a-fA-F]{6}", text)
    assert 'aria-label="a &quot;picture&quot;"' in text
    used = set(re.findall(r"var\((--c\w+)\)", text))
    assert used
    for dark in (False, True):
        assert used <= set(re.findall(r"(--c\w+):", svg.theme(dark)))
    assert svg.theme(True) != svg.theme(False)
    assert set(style.DARK) == {colour.upper() for colour in style.DARK}
