"""Files and overrides from strangers: a configuration, or each fault with its place; nothing is run or made."""

from __future__ import annotations

import copy
import json
import math
import os
import random
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sugarsearch.catalog import Catalogue
from sugarsearch.config import loader, yamlfile
from sugarsearch.config.objects import load_object
from sugarsearch.config.schema import SearchSpace, StudyConfig
from sugarsearch.errors import ConfigurationError, Problem, UnknownNameError, UsageError
from sugarsearch.symbolic.expression import MAX_CONSTANT

Model = type[StudyConfig] | type[SearchSpace]

SHIPPED: list[tuple[Model, Path]] = [
    *((StudyConfig, path) for path in loader.shipped("studies").values()),
    *((SearchSpace, path) for path in loader.shipped("search_spaces").values()),
]
ROUNDS = pytest.mark.parametrize("rounds", [200, pytest.param(2000, marks=pytest.mark.slow)])
QUICKSTART = loader.shipped("studies")["quickstart"]


@pytest.fixture(autouse=True)
def _nothing_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    yield
    assert not {"nosuch", "evil_user_code"} & set(sys.modules)
    assert [path.name for path in tmp_path.iterdir() if path.suffix != ".yaml"] == []


def problems(path: Path, model: Model = StudyConfig, *overrides: str) -> tuple[Problem, ...]:
    """The faults of a file; none for a configuration. Any other exception fails, and so does a long time."""
    for _ in range(3):  # the garbage collector may fall into one
        start = time.process_time()
        found = read(path, model, overrides)
        if time.process_time() - start < 2:
            return found
    raise AssertionError(f"{path} takes more than 2 s")


def read(path: Path, model: Model, overrides: tuple[str, ...]) -> tuple[Problem, ...]:
    try:
        loader.load(path, model, Catalogue(), overrides)
    except ConfigurationError as error:
        return error.problems
    return ()


def places(value: Any, location: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if location:
        yield location
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in inner:
        yield from places(item, (*location, key))


WRONG: list[Any] = [
    None, True, "", "x", [], {}, [[[]]], [None], [1, 1], ["x"], {"a": 1}, {"name": None}, {"low": 2, "high": 1}, -1, 0,
    3.5, 1e-300, 1e308, -1e308, 10**19, 10**25, "1" * 50, "nan", "1e-3", "a" * 300, "a" * 100_000, "~nosuchuser/x",
    f"/{'b' * 300}/c.yaml", "a\x00b", "a/\x00.yaml", "\ud800", "\x1b[31m", "..", "/dev/zero", "/dev/zero.yaml",
    "os:system", "subprocess:run", "nosuch.module:thing", "__import__('os').system('touch canary')", "\u0445",
]  # fmt: skip


@pytest.mark.parametrize(("model", "path"), SHIPPED, ids=lambda value: value.stem if isinstance(value, Path) else "")
def test_every_value_of_every_shipped_file_made_wrong(model: Model, path: Path) -> None:
    whole = yamlfile.read(path).value
    rng = random.Random(path.name)
    refused = 0
    for location in places(whole):
        for wrong in rng.sample(WRONG, 4):
            changed = copy.deepcopy(whole)
            target = changed
            for key in location[:-1]:
                target = target[key]
            target[location[-1]] = wrong
            file = Path("changed.yaml")
            file.write_text(json.dumps(changed, indent=1))
            found = problems(file, model)
            refused += bool(found)
            for problem in found:
                assert problem.line > 0, problem
                assert problem.column > 0, problem
    assert refused > 0


TOKENS = [
    b"\t", b"\0", b"\xff", b"\xef\xbb\xbf", b"&a ", b"*a", b"<<: ", b"!!python/object:os.system ", b"{", b"[", b"]",
    b"}", b": ", b"- ", b"\n", b"'", b'"', b"|", b">", b"---\n", b"...\n", b"%YAML 1.1\n", b"? ", b"#", b"@", b"`",
    b"1e999", b".nan", b"\xed\xa0\x80", b"\xe2\x80\xa8", b"\\", b"  ", b"null", b"on", b"9" * 30, b"0x1", b"=", b"~",
    b"! ", b"\r",
]  # fmt: skip


@ROUNDS
def test_any_bytes_are_a_configuration_or_faults(rounds: int) -> None:
    rng = random.Random(20261122)
    whole = [(model, path.read_bytes()) for model, path in SHIPPED]
    accepted = 0
    for _ in range(rounds):
        model, content = rng.choice(whole)
        changed = bytearray(content)
        for _ in range(rng.randint(1, 4)):
            at = rng.randrange(len(changed) + 1)
            kind = rng.randrange(4)
            if kind == 0 and changed:
                changed[at % len(changed)] = rng.randrange(256)
            elif kind == 1:
                changed[at:at] = rng.choice(TOKENS) * rng.choice((1, 1, 30, 200))
            elif kind == 2:
                del changed[at : at + rng.randint(1, 50)]
            else:
                changed[at:at] = changed[: rng.randint(0, len(changed))]
        file = Path("changed.yaml")
        file.write_bytes(changed)
        accepted += not problems(file, model)
    assert 0.05 < accepted / rounds < 0.5


@ROUNDS
def test_any_override_is_a_configuration_or_faults(rounds: int) -> None:
    rng = random.Random(20261122)
    keys = [
        "recipe.epochs",
        "space",
        "recipe.data",
        "recipe.model.options.depth",
        "search.queue",
        "name",
        "recipe",
        ".",
    ]
    pieces = [*(token.decode("latin1") for token in TOKENS), "1", "x", "\udcff", "0.1", "sigmoid(4*x)", ","]
    for _ in range(rounds):
        right = "".join(rng.choice(pieces) for _ in range(rng.randint(0, 5)))
        problems(QUICKSTART, StudyConfig, rng.choice(keys) + rng.choice(("=", "=", " = ", ".", "")) + right)


@pytest.mark.parametrize(
    ("text", "place", "reason"),
    [
        ("lr: .nan", "2:5", ".nan is not a finite number"),
        ("lr: -.inf", "2:5", "-.inf is not a finite number"),
        ("lr: 1e999", "2:5", "1e999 is not a finite number"),
        ("lr: {<<: {a: 1}}", "2:1", "lr is not allowed"),
        ("a: 1\na: 2", "3:1", "'a' is given twice (first on line 2)"),
        ("\ta: 1", "2:1", "found character '\\t'"),
        ("a: \x00", "2:4", "the character '\\x00' is not allowed"),
        ("a: \x1b[1m", "2:4", "the character '\\x1b' is not allowed"),
        ('a: "\\0"', "2:1", "a holds the character '\\x00'"),
        ('a: "\\ud800"', "2:1", "a holds the character '\\ud800'"),
        ("a: !!python/object/apply:os.system [ls]", "2:4", "tags (!...) are not allowed"),
        ("a: !!python/object/new:os.system {x: 1}", "2:4", "tags (!...) are not allowed"),
        ("? [a, b]\n: 1", "2:3", "a key must be a plain word"),
        ("a: " + "[" * 51 + "]" * 51, "2:53", "nested more than 50 deep"),
        ("a: " + "[" * 100_000, "2:53", "nested more than 50 deep"),
        ("".join(f"{'  ' * depth}a:\n" for depth in range(200)), "51:99", "nested more than 50 deep"),
        (f"a: [{'1,' * 400_000}]", "2:39995", "more than 20,000 values"),
        ("\n".join(f"k{i}: 1" for i in range(60_000)), "10000:8", "more than 20,000 values"),
        ("a: &a [*a]", "2:4", "a value that contains itself"),
        ("a: &a 1\nb: *c", "3:4", "found undefined alias"),
        ("a: 1\n---\nb: 2", "3:1", "but found another document"),
    ],
    ids=range(21),
)
def test_faults_of_the_text_have_their_place(text: str, place: str, reason: str) -> None:
    Path("f.yaml").write_text(f"name: x\n{text}\n")
    found = problems(Path("f.yaml"))
    lines = [str(problem) for problem in found]
    assert any(line.startswith(f"f.yaml:{place}: ") and reason in line for line in lines), lines[:9]


def test_a_long_text_of_one_line_is_read_in_time() -> None:
    Path("f.yaml").write_text(f"name: {'x' * 900_000}")
    assert "string should match pattern" in "".join(map(str, problems(Path("f.yaml"))))


@pytest.mark.parametrize("value", [".nan", "1e999", "[0.1, .inf]", '"\\0"', "!!str 3", "{a: 1, a: 2}"])
def test_an_override_loses_no_fault(value: str) -> None:
    (problem,) = (
        p for p in problems(QUICKSTART, StudyConfig, f"final.collapse_below={value}") if "is not" not in p.path
    )
    assert problem.path == f"--set final.collapse_below={value}"
    assert "collapse_below" in problem.message


def test_all_faulty_overrides_are_named_at_once() -> None:
    lines = [
        str(p) for p in problems(QUICKSTART, StudyConfig, "recipe", "search.candidates=0", "a." * 5000 + "b=1", "=3")
    ]
    assert len(lines) == 4
    assert sum("write key.key=value" in line for line in lines) == 3
    assert any("search.candidates is 0" in line for line in lines)


def test_what_never_ends_or_is_no_file_is_refused() -> None:
    os.mkfifo("pipe.yaml")
    Path("link.yaml").symlink_to("/dev/zero")
    Path("loop.yaml").symlink_to("loop.yaml")
    Path("utf16.yaml").write_text("name: x", encoding="utf-16")
    Path("late.yaml").write_bytes(b"name: x\nspace: \xe9\n")
    for name, reason in {
        "pipe.yaml": "no regular file",
        "link.yaml": "no regular file",
        "/dev/stdin/x.yaml": "cannot be read",
        "loop.yaml": "cannot be read: Too many levels",
        "utf16.yaml": "utf16.yaml:1:1: the file is not UTF-8 text",
        "late.yaml": "late.yaml:2:8: the file is not UTF-8 text",
        "no.yaml": "cannot be read: No such file",
        "n" * 300 + ".yaml": "cannot be read: File name too long",
        "a\x00b.yaml": "the path holds a NUL character",
    }.items():
        with pytest.raises(ConfigurationError, match=reason):
            loader.load(loader.find("studies", name), StudyConfig, Catalogue())
    Path("pipe.yaml").unlink()


def test_a_byte_order_mark_is_no_fault() -> None:
    Path("f.yaml").write_bytes(b"\xef\xbb\xbf" + QUICKSTART.read_bytes())
    assert problems(Path("f.yaml")) == ()


@pytest.mark.parametrize(
    ("space", "reason"),
    [
        ("no.yaml", "f.yaml:1:1: space: no.yaml: cannot be read"),
        ("/dev/zero.yaml", "f.yaml:1:1: space: /dev/zero.yaml: cannot be read: No such file"),
        ("./", "f.yaml:1:1: space: .: this is a folder"),
        (f"{'n' * 300}.yaml", "File name too long"),
    ],
)
def test_a_space_that_cannot_be_read_is_a_fault_of_the_line_that_names_it(space: str, reason: str) -> None:
    text = QUICKSTART.read_text().replace("space: gate\n", "")
    Path("f.yaml").write_text(f"space: {space}\n{text}")
    (problem,) = problems(Path("f.yaml"))
    assert reason in str(problem)


def test_a_wrong_option_is_one_fault() -> None:
    (problem,) = problems(QUICKSTART, StudyConfig, "recipe.model.options.depth=[1, 2]")
    assert "recipe.model.options.depth is not allowed: an option is a finite number, a word" in str(problem)


STANDARD = [
    "os:system",
    "subprocess:run",
    "builtins:exec",
    "posix:system",
    "shutil:rmtree",
    "os.path:join",
    "code:interact",
]


@pytest.mark.parametrize("name", STANDARD)
def test_python_s_own_functions_are_no_user_code(name: str) -> None:
    for key in ("recipe.data", "recipe.model", "recipe.model.name"):
        (problem,) = problems(QUICKSTART, StudyConfig, f"{key}={name}")
        assert "standard library" in problem.message
    with pytest.raises(UsageError, match="standard library"):
        load_object(name)


def test_user_code_is_neither_imported_nor_called_by_the_check() -> None:
    Path("evil_user_code.yaml").write_text("")  # a canary: written again on import
    module = Path("evil_user_code.py")
    module.write_text("open('canary', 'w')\ndef make(*a, **k):\n    open('canary', 'w')\n")
    assert (
        problems(QUICKSTART, StudyConfig, "recipe.data=evil_user_code:make", "recipe.model=evil_user_code:make") == ()
    )
    module.unlink()


def test_faults_of_user_code_are_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    here = Path.cwd()
    sources = {
        "leaves": "raise SystemExit(3)",
        "fails": "1/0",
        "lazy": "def __getattr__(name):\n    raise ValueError(name)",
        "borrows": "import functools\nfrom os import system\nfrom subprocess import Popen\n"
        "fine = functools.partial(int)",
    }
    for name, source in sources.items():
        (here / f"hostile_{name}.py").write_text(source)
    monkeypatch.syspath_prepend(str(here))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    expected = {
        "hostile_leaves:x": "SystemExit: 3",
        "hostile_fails:x": "ZeroDivisionError",
        "hostile_lazy:x": "ValueError: x",
        "hostile_nosuch:x": "ModuleNotFoundError",
        "hostile_borrows:nothing": "has no 'nothing'",
        "hostile_borrows:system": "standard library",
        "hostile_borrows:Popen": "standard library",
        "sugarsearch.config:nothing": "has no 'nothing'",
        "a b:c": "write package.module:name",
    }
    for name, reason in expected.items():
        with pytest.raises(UsageError, match=reason):
            load_object(name)
    assert load_object("hostile_borrows:fine")() == 0
    for name in sources:
        sys.modules.pop(f"hostile_{name}", None)
        (here / f"hostile_{name}.py").unlink()


def test_the_bounds_of_a_space_are_those_of_constants() -> None:
    beyond = math.nextafter(MAX_CONSTANT, math.inf)
    assert problems(QUICKSTART, StudyConfig, f"space.constants={{low: 0, high: {MAX_CONSTANT!r}}}") == ()
    assert "less than" in str(problems(QUICKSTART, StudyConfig, f"space.constants={{low: 0, high: {beyond!r}}}")[0])


def test_an_unknown_study_name_is_refused_with_the_known_ones() -> None:
    for name in ("", "x" * 100_000, "\x00", "quickstart\n"):
        with pytest.raises(UnknownNameError, match="quickstart"):
            loader.find("studies", name)
