import pytest
import torch
from torch import Tensor

from sugarsearch.errors import SelfTestError
from sugarsearch.nn import activation, function, selftest
from sugarsearch.nn.activation import Form
from sugarsearch.nn.kernels import plain
from sugarsearch.nn.selftest import Mode, self_test
from sugarsearch.nn.table import look_up


@pytest.mark.parametrize("form", ["closed", "table"])
@pytest.mark.parametrize("mode", ["eager", "population"])
def test_passes_where_all_is_well(mode: Mode, form: Form) -> None:
    self_test(mode, torch.device("cpu"), form)


@pytest.mark.parametrize("mode", ["eager", "population"])
def test_finds_relus_own_gradient(mode: Mode, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(activation, "sugar_relu", lambda x, derivative: torch.relu(x))
    with pytest.raises(SelfTestError, match=f"{mode} mode"):
        self_test(mode)


def test_finds_a_compiler_that_drops_the_backward(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selftest, "_compiled", lambda form, device: torch.relu)
    with pytest.raises(SelfTestError, match="compiled mode"):
        self_test("compiled")


def test_finds_a_wrong_forward(monkeypatch: pytest.MonkeyPatch) -> None:
    right = function.sugar_relu
    monkeypatch.setattr(activation, "sugar_relu", lambda x, derivative: right(x, derivative) + 0.001)
    with pytest.raises(SelfTestError, match="relu"):
        self_test("eager")


def mirrored(cells: Tensor, x: Tensor) -> Tensor:
    return look_up(cells, -x)


def rotated(cells: Tensor, x: Tensor) -> Tensor:
    return look_up(cells.roll(1, dims=1), x)


def reordered(cells: Tensor, x: Tensor) -> Tensor:
    return look_up(cells.flip(1), x)


def first_for_all(cells: Tensor, x: Tensor) -> Tensor:
    return look_up(cells[:, :1].expand_as(cells).contiguous(), x)


@pytest.mark.parametrize("broken", [mirrored, rotated, reordered, first_for_all])
def test_finds_swapped_halves_and_members(broken: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plain, "look_up", broken)
    with pytest.raises(SelfTestError, match="errs by"):
        self_test("population")


def test_finds_a_gradient_that_is_not_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plain, "look_up", lambda cells, x: x / 0)
    with pytest.raises(SelfTestError):
        self_test("eager", form="table")
