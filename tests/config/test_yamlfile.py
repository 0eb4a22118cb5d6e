"""YAML as 1.2 reads it, with places."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sugarsearch.config import yamlfile
from sugarsearch.errors import ConfigurationError


def value_of(text: str) -> object:
    document = yamlfile.parse(f"key: {text}", "f.yaml")
    assert not document.problems
    return document.value["key"]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 1e-3), ("1E5", 1e5), (".5", 0.5), ("-3.", -3.0), ("+2", 2), ("007", 7), ("on", "on"), ("yes", "yes"),
        ("off", "off"), ("true", True), ("False", False), ("~", None), ("", None), ("'1e-3'", "1e-3"),
        ('"true"', "true"),
        ("12:30", "12:30"), ("1_000", "1_000"), ("0x10", "0x10"), ("2026-11-21", "2026-11-21"),
    ],
)  # fmt: skip
def test_scalars_are_read_as_yaml_1_2(text: str, value: object) -> None:
    read = value_of(text)
    assert read == value
    assert type(read) is type(value)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_float_that_python_writes_is_read_back(value: float) -> None:
    assert value_of(repr(value)) == value


@given(
    st.recursive(
        st.integers() | st.booleans() | st.text("abc:#[]{} ", max_size=5), lambda inner: st.lists(inner, max_size=3)
    )
)
def test_json_is_yaml(value: object) -> None:
    assert value_of(json.dumps(value)) == value


def test_positions_name_line_and_column() -> None:
    document = yamlfile.parse("a: 1\nb:\n  c: [10,\n      20]\n", "f.yaml")
    assert document.value == {"a": 1, "b": {"c": [10, 20]}}
    where = {location: (p.line, p.column) for location, p in document.positions.items()}
    assert where[("b", "c")] == (3, 3)
    assert where[("b", "c", 1)] == (4, 7)
    assert document.position(("b", "missing", "deeper")).line == 2


def test_duplicate_keys_are_faults_and_the_first_is_kept() -> None:
    document = yamlfile.parse("a: 1\na: 2\n", "f.yaml")
    assert document.value == {"a": 1}
    assert str(document.problems[0]) == "f.yaml:2:1: 'a' is given twice (first on line 1); keep one."


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [1,\n", "f.yaml:2:1: this is not YAML"),
        ("\ta: 1\n", "f.yaml:1:1: this is not YAML"),
        ("- 1\n", "the top level must be a mapping"),
        ("", "the top level must be a mapping"),
        ("a: &a [*a]\n", "a value that contains itself"),
        ("a: \x00\n", "this is not YAML"),
        ("a: " + "[" * 5000, "f.yaml"),
    ],
)
def test_what_is_not_yaml_is_one_clear_error(text: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(message)):
        yamlfile.parse(text, "f.yaml")


def test_a_bomb_of_anchors_stops_early() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 12)]
    with pytest.raises(ConfigurationError, match="more than 20,000 values"):
        yamlfile.parse("\n".join(lines), "f.yaml")


@pytest.mark.parametrize(
    "text",
    ["!!python/object/apply:os.system [ls]", "!!python/name:os.system ''", "!thing 3", "!!str 3", "! x", "!!set {x}"],
)
def test_tags_build_nothing_and_are_refused(text: str) -> None:
    document = yamlfile.parse(f"a: {text}", "f.yaml")
    assert [str(problem) for problem in document.problems] == [
        "f.yaml:1:4: tags (!...) are not allowed; write plain values."
    ]
    assert isinstance(document.value["a"], list | str | int | dict)


@pytest.mark.parametrize("text", [".nan", ".inf", "-.inf"])
def test_only_finite_numbers(text: str) -> None:
    assert "not a finite number" in yamlfile.parse(f"a: {text}", "f.yaml").problems[0].message


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="this is a folder"):
        yamlfile.read(tmp_path)
    with pytest.raises(ConfigurationError, match=r"missing\.yaml: cannot be read: No such file"):
        yamlfile.read(tmp_path / "missing.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"a: \xe9\n")
    with pytest.raises(ConfigurationError, match="not UTF-8"):
        yamlfile.read(tmp_path / "latin.yaml")
    (tmp_path / "large.yaml").write_text("a: 1\n" * 300_000)
    with pytest.raises(ConfigurationError, match="more than 1,000,000 bytes"):
        yamlfile.read(tmp_path / "large.yaml")
