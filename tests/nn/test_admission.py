import time

import pytest

from sugarsearch.errors import AdmissionError
from sugarsearch.nn.admission import admit
from sugarsearch.symbolic.library import LIBRARY, surrogate


@pytest.mark.parametrize("name", LIBRARY)
def test_the_library_is_admitted(name: str) -> None:
    admit(surrogate(name))


@pytest.mark.parametrize(
    ("text", "point", "reason"),
    [
        ("1/x", 0.0, "not a finite real"),
        ("x/abs(x)", 0.0, "not a finite real"),
        ("1/(x - 1)", 1.0, "not a finite real"),
        ("sqrt(x)", -8.0, "not a finite real"),
        ("log1p_abs(x)*x", None, "above 100"),
        ("x", None, "above 100"),
        ("exp(x)", None, "above 100"),
        ("exp(x)*exp(-x)", None, "not a finite real"),
        ("150*step(x)", None, "above 100"),
        ("0*x", None, "0 everywhere"),
    ],
)
def test_a_refusal_names_point_dtype_and_reason(text: str, point: float | None, reason: str) -> None:
    with pytest.raises(AdmissionError, match=reason) as caught:
        admit(surrogate(text))
    assert caught.value.dtype == "float32"
    if point is not None:
        assert caught.value.point == point
        assert f"x = {point:g}" in str(caught.value)


def test_points_that_only_half_precision_meets_are_seen() -> None:
    # A narrow spike around fp16's smallest normal number: float32's and bfloat16's grids step over it.
    with pytest.raises(AdmissionError) as caught:
        admit(surrogate("1000*gaussian((x - 6.103515625e-05)*1e5*10)"))
    assert caught.value.dtype == "float16"
    assert caught.value.point == 2**-14


def test_admission_takes_less_than_a_millisecond() -> None:
    g = surrogate("mish")
    admit(g)
    start = time.perf_counter()
    for _ in range(20):
        admit(g)
    assert (time.perf_counter() - start) / 20 < 5e-3  # measured 0.2 ms; the bound allows for a busy machine
