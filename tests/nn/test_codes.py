import copy
import pickle
import time
from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from sugarsearch.errors import AdmissionError, UsageError
from sugarsearch.nn.codes import BITS, Codebook, Layout, codebook, decode, encode, partition
from sugarsearch.nn.table import CELLS_PER_HALF, points
from sugarsearch.symbolic.library import LIBRARY, surrogate

NAMES = sorted(LIBRARY)
Floats = NDArray[np.float64]


def line() -> Floats:
    """Points all over the line, dense where g bends, off the borders of the cells."""
    far = np.sinh(np.linspace(-11.7, 11.7, 60_001))
    return np.concatenate([np.linspace(-8, 8, 200_003), far, [0.0, -0.0, 1e-30, -1e-30, 1e300, -np.inf, np.inf]])


def levels_at(x: Floats, book: Codebook) -> Floats:
    given = torch.from_numpy(x)
    return decode(encode(given, book), book, Layout.of(given)).double().numpy()


def code_of(x: Tensor, book: Codebook) -> NDArray[np.uint8]:
    """The code of each element by the documented coordinate, in float64."""
    wide = x.double().numpy()
    u = CELLS_PER_HALF * (1 - 1e-6) * wide / (1 + np.abs(wide))
    codes: NDArray[np.uint8] = book.codes.numpy()[np.ceil(u).astype(int) + CELLS_PER_HALF - 1]
    return codes


def cost(values: Floats, weights: Floats) -> float:
    return float(weights @ (values - np.average(values, weights=weights)) ** 2)


def set_partitions(items: list[int]) -> Iterator[list[list[int]]]:
    """Every way to divide items into sets, intervals or not."""
    if not items:
        yield []
        return
    for rest in set_partitions(items[1:]):
        yield [[items[0]], *rest]
        for place in range(len(rest)):
            yield [*rest[:place], [items[0], *rest[place]], *rest[place + 1 :]]


def two_sides(rng: np.random.Generator, below: int, above: int) -> tuple[Floats, Floats]:
    values = np.concatenate([np.sort(rng.normal(size=below)), np.sort(rng.normal(size=above))])
    return values, rng.exponential(size=below + above) ** 2 + 1e-6


def divided(values: Floats, weights: Floats, border: int, classes: int) -> float:
    starts = partition(values, weights, border, classes)
    assert starts[0] == 0
    assert border in starts
    ends = [*starts, values.size]
    assert len(starts) == classes
    return sum(cost(values[a:b], weights[a:b]) for a, b in pairwise(ends))


@pytest.mark.parametrize("seed", range(4))
def test_the_classes_are_the_best_of_all_divisions_into_sets(seed: int) -> None:
    values, weights = two_sides(np.random.default_rng(seed), 5, 4)
    best = np.full(10, np.inf)
    for below in set_partitions([0, 1, 2, 3, 4]):
        for above in set_partitions([5, 6, 7, 8]):
            sets = [*below, *above]
            total = sum(cost(values[members], weights[members]) for members in sets)
            best[len(sets)] = min(best[len(sets)], total)
    for classes in range(2, 10):
        assert divided(values, weights, 5, classes) == pytest.approx(best[classes], abs=1e-12)


@pytest.mark.parametrize(("below", "above", "most"), [(70, 51, 40), (1, 90, 20), (90, 1, 20), (33, 64, 96)])
def test_the_fast_search_finds_what_the_plain_one_does(below: int, above: int, most: int) -> None:
    values, weights = two_sides(np.random.default_rng(below), below, above)
    weights[below - 1] = 100.0
    size = values.size
    single = np.full((size + 1, size + 1), np.inf)
    for start in range(size):
        for end in range(start + 1, size + 1):
            if not start < below < end:
                single[start, end] = cost(values[start:end], weights[start:end])
    best = single[0]
    for classes in range(2, most + 1):
        best = (best[:, None] + single).min(axis=0)
        if classes in (2, 3, 7, most):
            assert divided(values, weights, below, classes) == pytest.approx(best[-1], rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("name", NAMES)
def test_stated_errors_are_true(name: str, bits: int) -> None:
    g = surrogate(name)
    book = codebook(g, bits)
    x = line()
    worst = np.abs(levels_at(x, book) - g(x)).max()
    assert worst <= book.max_error + 1e-6
    assert book.max_error <= 1.05 * worst + 1e-6
    z = np.linspace(-10, 10, 400_000)
    density = np.exp(-0.5 * z**2)
    mean_square = np.average((levels_at(z, book) - g(z)) ** 2, weights=density)
    assert book.rms_error == pytest.approx(np.sqrt(mean_square), rel=2e-3, abs=1e-7)


@pytest.mark.parametrize(
    "text", ["step(x - 0.3)", "max(0, 1 - abs(x - 0.1))", "gaussian(8*x)", "1 if x > 0 else sin(x)"]
)
def test_the_largest_error_holds_at_jumps_and_kinks_too(text: str) -> None:
    g = surrogate(text)
    x = np.linspace(-30, 30, 600_001)
    for bits in BITS:
        book = codebook(g, bits)
        assert np.abs(levels_at(x, book) - g(x)).max() <= book.max_error + 1e-6


@pytest.mark.parametrize("name", ["b_silu", "silu", "gelu", "elu", "nelu", "mish"])
def test_errors_are_small_and_fall_with_the_bits(name: str) -> None:
    size = max(map(abs, surrogate(name).bounds))
    errors = [codebook(surrogate(name), bits).rms_error / size for bits in BITS]
    assert errors[0] < 0.0015
    assert errors[1] < 0.025
    assert errors[2] < 0.11
    worst = [codebook(surrogate(name), bits).max_error / size for bits in BITS]
    assert worst[0] < 0.005
    assert worst[1] < 0.06


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("name", NAMES)
def test_zero_has_the_level_of_g_at_zero_and_so_has_nan(name: str, bits: int) -> None:
    g = surrogate(name)
    wanted = float(np.float32(g.at_zero))
    assert levels_at(np.array([0.0, -0.0, np.nan]), codebook(g, bits)).tolist() == [wanted] * 3


@pytest.mark.parametrize("bits", BITS)
def test_a_jump_at_zero_is_exact_on_both_sides(bits: int) -> None:
    book = codebook(surrogate("0.75 if x > 0 else -0.25 + 0*x"), bits)
    x = np.array([0.0, -0.0, 1e-30, -1e-30, 1.5e-45, 1e-3, -1e-3, 3e38, -3e38, np.inf, -np.inf])
    assert levels_at(x, book).tolist() == [-0.25, -0.25, 0.75, -0.25, 0.75, 0.75, -0.25, 0.75, -0.25, 0.75, -0.25]
    assert book.max_error == 0.0
    assert book.levels.numel() == 2


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("name", NAMES)
def test_the_two_sides_of_zero_share_no_code(name: str, bits: int) -> None:
    book = codebook(surrogate(name), bits)
    below, above = book.codes.view(2, -1).unbind()
    assert not set(below.tolist()) & set(above.tolist())
    assert set(book.codes.tolist()) == set(range(book.levels.numel()))
    assert book.levels.numel() <= 2**bits
    own = book.relus_own()
    assert torch.equal(own.levels[own.codes.long()], (torch.arange(2 * CELLS_PER_HALF) >= CELLS_PER_HALF).float())


@pytest.mark.parametrize("bits", BITS)
def test_a_constant_side_takes_one_code(bits: int) -> None:
    book = codebook(surrogate("nelu"), bits)
    assert len(set(book.codes[CELLS_PER_HALF:].tolist())) == 1
    assert len(set(book.codes[:CELLS_PER_HALF].tolist())) == 2**bits - 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("bits", BITS)
def test_codes_are_those_of_the_cells_in_every_dtype(bits: int, dtype: torch.dtype) -> None:
    book = codebook(surrogate("b_silu"), bits)
    middles = torch.from_numpy(points(CELLS_PER_HALF)[1]).to(dtype)
    u = CELLS_PER_HALF * (1 - 1e-6) * middles.double() / (1 + middles.double().abs())
    x = middles[((u - u.round()).abs() > 1e-3) & middles.isfinite()][:-1]  # an odd number is left, or is made so
    x = x[: x.numel() - 1 + x.numel() % 2]
    packed = encode(x, book)
    assert packed.dtype == torch.uint8
    assert packed.shape == (-(-x.numel() * bits // 8),)
    got = decode(packed, book, Layout.of(x))
    assert got.dtype == torch.float32
    assert torch.equal(got, book.levels[torch.from_numpy(code_of(x, book)).long()])


@pytest.mark.parametrize("bits", BITS)
def test_more_elements_than_are_worked_on_at_once(bits: int) -> None:
    book = codebook(surrogate("gelu"), bits)
    x = torch.randn(2**17 * 2 + 12_345)
    whole = decode(encode(x, book), book, Layout.of(x))
    pieces = [decode(encode(piece, book), book, Layout.of(piece)) for piece in x.chunk(273)]
    assert torch.equal(whole, torch.cat(pieces))


@pytest.mark.parametrize("bits", BITS)
def test_layouts_without_gaps_are_read_in_place(bits: int) -> None:
    book = codebook(surrogate("b_silu"), bits)
    x = torch.randn(3, 5, 7, 9)
    plain = decode(encode(x, book), book, Layout.of(x))
    for twin in (x.to(memory_format=torch.channels_last), x.permute(2, 0, 3, 1).clone().permute(1, 3, 0, 2), x[:1]):
        layout = Layout.of(twin)
        assert layout.flat(twin).data_ptr() == twin.data_ptr()
        assert torch.equal(encode(twin, book), encode(layout.flat(twin).clone(), book))
        got = decode(encode(twin, book), book, layout)
        assert torch.equal(got, plain[: twin.shape[0]])
        assert got.stride() == twin.stride()


@pytest.mark.parametrize("bits", BITS)
def test_layouts_with_gaps_and_odd_shapes(bits: int) -> None:
    book = codebook(surrogate("b_silu"), bits)
    x = torch.randn(4, 6, 5, 3).to(memory_format=torch.channels_last)
    for given in (x[:, 1:4], x[..., ::2], x[:, :1].expand(4, 3, 5, 3), x.sum(), x[:0], torch.randn(7)[::3]):
        got = decode(encode(given, book), book, Layout.of(given))
        assert torch.equal(got, decode(encode(given.contiguous(), book), book, Layout.of(given.contiguous())))
        assert got.shape == given.shape
    assert decode(encode(x[:, 1:4], book), book, Layout.of(x[:, 1:4])).is_contiguous(memory_format=torch.channels_last)


def test_books_can_be_copied_pickled_and_moved() -> None:
    book = codebook(surrogate("b_silu"), 4)
    x = torch.randn(101)
    for twin in (copy.deepcopy(book), pickle.loads(pickle.dumps(book)), book.to("cpu")):
        assert torch.equal(encode(x, twin), encode(x, book))
        assert (twin.bits, twin.rms_error, twin.max_error) == (book.bits, book.rms_error, book.max_error)
    assert book.to("cpu") is book
    assert book.to("meta").codes.is_meta


def test_equal_surrogates_share_a_book() -> None:
    assert codebook(surrogate("b_silu"), 4) is codebook(surrogate("b_silu"), 4)


@pytest.mark.parametrize(("bits", "seconds"), [(8, 0.3), (4, 0.05), (2, 0.05)])
def test_making_a_book_is_quick(bits: int, seconds: float) -> None:
    def fastest(name: str) -> float:
        codebook.cache_clear()
        start = time.process_time()
        codebook(surrogate(name), bits)
        return time.process_time() - start

    assert min(fastest(name) for name in ("b_silu", "silu", "b_silu")) < seconds


def test_what_cannot_be_coded_is_refused() -> None:
    with pytest.raises(UsageError, match="codes of 3 bits"):
        codebook(surrogate("b_silu"), 3)
    with pytest.raises(AdmissionError, match="not finite"):
        codebook(surrogate("1/x"), 4)
