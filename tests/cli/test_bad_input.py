"""Bad arguments of every command: one message on stderr, exit code 2, no traceback, and nothing is made."""

from __future__ import annotations

import errno
import itertools
import json
import os
import resource
import shlex
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from sugarsearch.cli import Commands, app
from sugarsearch.errors import SugarsearchWarning

PROGRAM = [sys.executable, "-c", "from sugarsearch.cli import main; main()"]
TRAIN = ["train", "--data", "digits", "--model", "deep_narrow_mlp", "--device", "cpu"]
TUNE = ["tune", "b_silu", "--data", "digits", "--model", "deep_narrow_mlp"]


@pytest.fixture(autouse=True)
def _nothing_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SUGARSEARCH_DATA", str(tmp_path / "data"))
    yield
    assert list(tmp_path.iterdir()) == []


def call(*arguments: str) -> Result:
    return CliRunner().invoke(app, arguments)


LONG = "n" * 300
BAD = [
    [],
    ["nosuch"],
    ["--nosuch"],
    *([command] for command in ("search", "tune", "train", "report", "show", "validate", "data")),
    *([command, "x", "y", "z", "w"] for command in ("search", "tune", "report", "show", "validate")),
    # Files: missing, a folder, a device, not YAML, unreadable names.
    *(
        [command, given]
        for command, given in itertools.product(
            ("search", "validate"),
            ("", "nosuch", "no/such.yaml", "./", "/dev/null/x.yaml", "/etc/passwd", "/dev/zero/..", f"{LONG}.yaml",
             f"./{LONG}", "\u0445.yaml", "\udcff.yaml", "\x1b[2J.yaml", "os:system"),
        )
    ),
    *(["report", given] for given in ("", "no/such", "/dev/null", LONG, "\udcff", "/proc")),
    # Overrides.
    *(
        [*command, "--set", override]
        for command, override in itertools.product(
            (["search", "quickstart"], ["validate", "quickstart"], TUNE, TRAIN),
            ("", "x", "=", "=1", "a.b.c=1", "recipe=", "recipe.epochs=0", "recipe.epochs=1e3", "recipe.epochs=nan",
             "recipe.batch_size=-1", "recipe.data=os:system", "recipe.model=subprocess:run", "recipe.model=\udcff",
             "a." * 5000 + "b=1", "recipe.epochs=" + "[" * 5000, "execution.threads=1000000",
             "execution.device=cuda:\u0663"),
        )
    ),
    *(
        ["show", "b_silu", "--set", override]
        for override in ("", "alpha", "alpha=", "alpha=x", "alpha=nan", "alpha=inf", "alpha=1e300", "=1", "beta=1")
    ),
    ["show", "b_silu", "--set", "alpha=1", "--set", "alpha=2"],
    *(["show", text] for text in ("", " ", "b_silo", "\u0445", "\udcff", "x" * 100_000, "__import__('os')", "\x1b[2J")),
    *(["show", "relu", "--plot", plot] for plot in ("", ".", "g.pdf", "g", "/dev/null/g.png", f"{LONG}.png")),
    # Numbers.
    *([*TUNE, "--candidates", number] for number in ("0", "-1", "nan", "1e3", "", "99999999999999999999")),
    *(
        [*TUNE, "--range", given]
        for given in ("", "alpha", "alpha=", "alpha=1", "alpha=1:", "alpha=2:1", "alpha=nan:1", "alpha=0:inf",
                      "alpha=a:b", "alpha=0:1e300", "beta=1:2", "=1:2")
    ),
    *(["tune", text, *TUNE[2:]] for text in ("", "relu", "sigmoid(k*x)", "nosuch", "\u0445", "x" * 10_000)),
    *([*command, "--workers", n] for n in ("0", "-1", "x", "100000") for command in (TUNE, ["search", "quickstart"])),
    *([*command, "--device", name] for name in ("", "gpu", "cuda:x", "cuda:-1", "cuda:99999999999", "meta", "\udcff")
      for command in (TUNE, ["search", "quickstart"], TRAIN)),
    *([*TRAIN, "--lr", number] for number in ("0", "-1", "nan", "inf", "1e9", "x", "")),
    *([*TRAIN, "--epochs", number] for number in ("0", "-1", "1.5", "x", "99999999999999999999")),
    *([*TRAIN, "--seed", number] for number in ("-1", "x", "1e3", "99999999999999999999999")),
    *([*TRAIN, "--surrogate", text] for text in ("", "b_silo", "\u0445", "1/(x - x)", "exp(exp(x))", "x" * 10_000)),
    *([*TRAIN, "--optimizer", text] for text in ("", "rmsprop")),
    *([*TRAIN, "--out", path] for path in ("", ".", "no/such/w.pt", "/dev/null/w.pt", "/proc/w.pt", f"{LONG}.pt")),
    # Names of data and models.
    *(
        [command, *rest, "--data", data, "--model", "deep_narrow_mlp"]
        for command, *rest in (["train"], ["tune", "b_silu"])
        for data in ("", "nosuch", "no/such", "/dev/null", "os:listdir", "nosuch.module:x", "~nosuchuser/x", LONG)
    ),
    *([*TRAIN, "--model", name] for name in ("", "resnet19", "os:system", "nosuch.module:x", "\udcff")),
    *(["data", "check", name] for name in ("", "nosuch", "no/such", "/dev/null", "os:listdir", "nosuch.module:x")),
    *(["data", "import", path, "--name", "n"] for path in ("", "no/such", "/dev/null", LONG)),
    ["data", "nosuch"],
    ["data", "import", "."],
]  # fmt: skip


@pytest.mark.parametrize("arguments", BAD, ids=lambda arguments: ascii(" ".join(arguments))[1:61])
def test_bad_arguments_are_one_message_and_exit_code_2(arguments: list[str]) -> None:
    result = call(*arguments)
    assert result.exit_code == 2, (result.exception, result.output[:1000])
    assert isinstance(result.exception, SystemExit)
    message = result.stderr if arguments not in ([], ["data"]) else result.output
    assert message.strip()
    assert "Traceback" not in result.output
    assert "\x1b[2J" not in result.output
    if arguments[1:]:
        assert result.stdout == ""


REAL = [
    (["search", "no/such.yaml"], "no/such.yaml: cannot be read: No such file or directory."),
    (["show", "b_silo"], "sugarsearch: unknown surrogate 'b_silo'; did you mean b_silu"),
    (["train", "--data", "digitz", "--model", "resnet18"], "did you mean digits?"),
    (["validate", b"\xff.yaml"], "\\udcff.yaml: cannot be read"),
    (["validate", "\x1b[2J.yaml"], "\\x1b[2J.yaml: cannot be read"),
]


@pytest.mark.parametrize(("arguments", "message"), REAL, ids=range(len(REAL)))
def test_the_real_program_says_one_line(arguments: list[str | bytes], message: str) -> None:
    done = subprocess.run([*PROGRAM, *arguments], capture_output=True, check=False)
    text = done.stderr.decode()
    assert (done.returncode, done.stdout) == (2, b"")
    assert message in text
    assert text.count("\n") == 1


FAULTS = [
    (errno.ENOSPC, "No space left on device. Make room"),
    (errno.EDQUOT, "Disk quota exceeded. Make room"),
    (errno.EFBIG, "File too large. Make room"),
    (errno.EACCES, "Permission denied. Choose a place that you may use."),
    (errno.EROFS, "Read-only file system. Choose a place"),
    (errno.EMFILE, "Too many open files. Raise the limit"),
    (errno.ENAMETOOLONG, "File name too long. Give a shorter path."),
    (errno.EIO, "Input/output error. The disk"),
    (errno.ENODEV, "No such device."),
]


def program(action: str) -> typer.Typer:
    """The command line with a command that does what `action` says."""
    own = typer.Typer(cls=Commands, pretty_exceptions_enable=False)

    @own.command()
    def act() -> None:
        exec(action)

    @own.command()
    def other() -> None: ...

    return own


@pytest.mark.parametrize(("number", "message"), FAULTS)
def test_faults_of_the_system_are_one_message(number: int, message: str) -> None:
    result = CliRunner().invoke(program(f"raise OSError({number}, {os.strerror(number)!r}, '/some/file')"), ["act"])
    assert result.exit_code == 2
    assert result.stderr.startswith(f"sugarsearch: /some/file: {message}")
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("error", ["MemoryError()", "RecursionError()", "ValueError('x')", "OSError('of a library')"])
def test_bugs_keep_their_traceback(error: str) -> None:
    result = CliRunner().invoke(program(f"raise {error}"), ["act"])
    assert result.exit_code == 1
    assert type(result.exception).__name__ == error.partition("(")[0]


def test_a_full_disk_is_one_message_and_leaves_no_weights(tmp_path: Path) -> None:
    small = ["--epochs", "1", "--set", "recipe.data.train_limit=100", "--set", "recipe.model.options.depth=2"]
    done = subprocess.run(
        [*PROGRAM, *TRAIN, *small, "--out", "weights.pt"],
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000)),
    )
    assert done.returncode == 2, done.stderr
    assert "weights.pt cannot be written: File too large." in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_warnings_for_users_are_one_clean_line_and_others_are_untouched() -> None:
    action = (
        "import warnings\nfrom sugarsearch.errors import SugarsearchWarning\n"
        "warnings.warn('the last line is torn.', SugarsearchWarning)\nwarnings.warn('of a library', UserWarning)"
    )
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        result = CliRunner().invoke(program(action), ["act"])
        warnings.warn("outside", SugarsearchWarning, stacklevel=1)
    assert result.exit_code == 0, result.exception
    assert result.stderr == "sugarsearch: warning: the last line is torn.\n"
    assert [str(warning.message) for warning in seen] == ["of a library", "outside"]


def test_a_reader_that_goes_away_is_no_fault() -> None:
    command = f"{shlex.join(PROGRAM)} show relu | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1)
    assert done.stderr == ""


@pytest.mark.parametrize("text", ["1/(x - x)", "exp(exp(exp(x))) - exp(exp(exp(x)))", "sqrt(x)"])
def test_a_g_that_is_not_finite_is_shown_as_such(text: str) -> None:
    assert json.loads(call("show", text, "--json").stdout)["gain"] is None
    assert "gain       not finite" in call("show", text).stdout
