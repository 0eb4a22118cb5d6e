"""grad * g(x) on CUDA in eager mode as one kernel: Triton, written by hand.

In compiled code the compiler fuses plain torch, and could not look into these kernels. Triton is imported by the first
launch, since it is missing on some platforms. All kernels are made from one text, because those of closed forms have to
be; made while TRITON_INTERPRET=1 is in the environment, they run on the CPU.
"""

from __future__ import annotations

import hashlib
import importlib
import linecache
from collections.abc import Callable, Mapping
from functools import cache, lru_cache
from types import MappingProxyType
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from sugarsearch.errors import UsageError
from sugarsearch.nn.lowering import TORCH, Lowered
from sugarsearch.nn.table import MARGIN
from sugarsearch.symbolic.surrogate import REACH

PATTERNS: Final = 2**16
"""How many bit patterns a 16-bit number has."""

_BLOCK = 1024  # elements of one program: for each thread of four warps 8, 16 bytes of a 16-bit dtype
_WIDE_FROM = 2**31 - _BLOCK  # elements from which on an index may not fit in 32 bits
_SMALLEST: Final = 2.0**-126  # the smallest number that Triton takes for a float32

# Operands are names of float32 blocks and, for some but not all operands, numbers.
TRITON: Mapping[str, str] = MappingProxyType(
    {
        "neg": "-{0}",
        "abs": "tl.abs({0})",
        "square": "{0} * {0}",
        "sqrt": "tl.sqrt_rn({0})",
        "exp": "tl.exp({0})",
        "log1p_abs": "_log1p(tl.abs({0}))",
        "sigmoid": "1.0 / (1.0 + tl.exp(-{0}))",
        "softplus": "tl.maximum({0}, 0.0, tl.PropagateNan.ALL) + _log1p(tl.exp(-tl.abs({0})))",
        "tanh": "_tanh({0})",
        "sech2": "_sech2({0})",
        "erf": "tl.erf({0})",
        "normal_cdf": "_normal_cdf({0})",
        "normal_pdf": "tl.exp(-0.5 * {0} * {0}) * 0.3989422804014327",
        "gaussian": "tl.exp(-{0} * {0})",
        "atan": "_atan({0})",
        "sin": "tl.sin({0})",
        "cos": "tl.cos({0})",
        "step": "tl.where({0} > 0, 1.0, 0.0)",
        "softsign": "{0} / (1.0 + tl.abs({0}))",
        "relu": "tl.maximum({0}, 0.0, tl.PropagateNan.ALL)",
        "add": "{0} + {1}",
        "sub": "{0} - {1}",
        "mul": "{0} * {1}",
        "div": "{0} / {1}",
        "pow": "{power}",
        "max": "tl.maximum({0}, {1}, tl.PropagateNan.ALL)",
        "min": "tl.minimum({0}, {1}, tl.PropagateNan.ALL)",
        "if_positive": "tl.where({0} > 0, {1}, {2})",
        "if_nonnegative": "tl.where({0} >= 0, {1}, {2})",
    }
)
"""Each operator of the closed form in Triton's language; the power, whose exponent is a number, is `_power`'s."""

if TRITON.keys() != TORCH.keys():
    raise ImportError(f"operators without a Triton form, or the reverse: {sorted(TRITON.keys() ^ TORCH.keys())}")

# Functions that Triton's language lacks. The polynomials are minimax fits of relative error 3e-8 (normal_cdf), 7e-8
# (tanh) and 2e-8 (atan); evaluated in float32, with the rounding of their argument, 4e-7, 2e-7 and 2e-7.
_FUNCTIONS: Final = """\
@triton.jit
def _log1p(a):  # of a >= 0; log(1 + a) alone has no correct digit below a = 6e-8
    u = 1.0 + a
    return tl.where(u == 1.0, a, tl.log(u) * tl.where(a < 1.0, a / (u - 1.0), 1.0))


@triton.jit
def _tanh(a):
    s = a * a
    near = 0.133101851 + s * (-0.0521018766 + s * 0.0154759148)
    near = a * (0.99999994 + s * (-0.333323121 + s * near))
    tail = tl.exp(-2.0 * tl.abs(a))
    far = (1.0 - tail) / (1.0 + tail)
    return tl.where(tl.abs(a) < 0.6, near, tl.where(a > 0, far, -far))


@triton.jit
def _sech2(a):
    tail = tl.exp(-2.0 * tl.abs(a))  # 1 - tanh(a)**2 would be 0 from a = 9 (float32)
    return 4.0 * tail / ((1.0 + tail) * (1.0 + tail))


@triton.jit
def _normal_cdf(a):  # exp(-a**2 / 2) t P(t) for a <= 0, so that the small side keeps its digits
    t = 1.0 / (1.0 + 0.35 * tl.abs(a))
    p = 0.159392983 + t * (-0.255901933 + t * (0.144060835 - t * 0.0291639324))
    p = 0.139621258 + t * (0.13986434 + t * (0.119815491 + t * (0.105574816 + t * (-0.023263881 + t * p))))
    below = tl.exp(-0.5 * a * a) * t * p
    return tl.where(a > 0, 1.0 - below, below)


@triton.jit
def _atan(a):
    size = tl.abs(a)
    t = tl.where(size > 1.0, 1.0 / size, size)
    s = t * t
    p = -0.0750446022 + s * (0.042693302 + s * (-0.0160696451 + s * 0.00285012834))
    p = 1.0 + s * (-0.33333075 + s * (0.199926242 + s * (-0.142036706 + s * (0.10641022 + s * p))))
    angle = tl.where(size > 1.0, 1.5707963267948966 - t * p, t * p)
    return tl.where(a < 0, -angle, angle)
"""

# Storage is walked in order. v0 is x, 0 behind the end, so that every index made of it lies in its table.
_KERNEL: Final = """\
@triton.jit
def sugar_gradient(result, grad, x, numel, {parameters}wide: tl.constexpr, block: tl.constexpr):
    start = tl.program_id(0)
    if wide:
        start = start.to(tl.int64)
    at = start * block + tl.arange(0, block)
    inside = at < numel
    v0 = tl.load(x + at, inside, 0.0)
    above = tl.load(grad + at, inside, 0.0)
{body}
    tl.store(result + at, g * above, inside)
"""

# The first axis of x has the stride `stride` in storage, which need not be the largest.
_TABLE_PARAMETERS: Final = "table, stride, members, many: tl.constexpr, "
_BITS: Final = """\
row = at // stride % members if many else 0
g = tl.load(table + row * 65536 + (v0.to(tl.int16, bitcast=True).to(tl.int32) & 0xFFFF))"""

# Where u is a whole number above 0 the cell is the one after look_up's, which begins with the value that one ends with.
# tl.ceil would take the smallest x > 0 for 0, and so g(0) for g(0+).
_CELLS_PARAMETERS: Final = f"{_TABLE_PARAMETERS}half: tl.constexpr, inverse: tl.constexpr, "
_CELLS: Final = f"""\
row = at // stride % members if many else 0
v0 = v0.to(tl.float32)
v0 = tl.where(v0 == v0, v0, 0.0)
v0 = tl.where(tl.abs(v0) == float("inf"), tl.where(v0 > 0, {REACH}, -{REACH}), v0)
u = tl.div_rn(v0, inverse + tl.abs(v0) * inverse)
cell = row * (2 * half) + u.to(tl.int32) + tl.where(v0 > 0, half, half - 1)
g = tl.load(table + cell) + u * tl.load(table + members * (2 * half) + cell)"""

# Written as comparisons, which keep NaN.
_CLAMP: Final = f"""\
v0 = v0.to(tl.float32)
v0 = tl.where(v0 > {REACH}, {REACH}, tl.where(v0 < -{REACH}, -{REACH}, v0))"""


@cache
def is_available() -> bool:
    """Whether Triton can be imported. Whether there is a device for it is the caller's question."""
    try:
        _triton()
    except Exception:  # an installation that does not fit the machine may raise anything
        return False
    return True


def times_bits(grad: Tensor, x: Tensor, values: Tensor) -> Tensor:
    """grad * g(x) for x of 16 bits, with g out of a table of all its bit patterns: exact, at jumps too.

    values: float32 [members, 65536], see `bit_values`; with more than one member x is [members, ...]. Another table
    needs no other kernel. The result has grad's dtype and the shape and memory format of x.

    Raises:
        UsageError: x is not bfloat16 or float16, or has another number of members.
    """
    if x.dtype not in (torch.bfloat16, torch.float16):
        raise UsageError(f"a table of bit patterns is for x of bfloat16 or float16; given {x.dtype}.")
    return _multiply(_compiled(_source(_TABLE_PARAMETERS, _BITS)), grad, x, values, values.shape[0])


def bit_values(function: Callable[[Tensor], Tensor], dtype: torch.dtype) -> Tensor:
    """g at each bit pattern of `dtype`, float32 [65536], on the CPU; the index is the pattern as an unsigned integer.

    function: g, of a float32 tensor; x beyond +-65504 counts as +-65504, NaN as 0.
    dtype: bfloat16 or float16.
    """
    x = torch.from_numpy(np.arange(PATTERNS, dtype=np.uint16).view(np.int16)).view(dtype).float()
    return function(torch.nan_to_num(x, nan=0.0).clamp_(-REACH, REACH)).float()


def times_cells(grad: Tensor, x: Tensor, cells: Tensor) -> Tensor:
    """grad * g(x) with g out of a table's `cells`, as `sugarsearch.nn.table.look_up` gives it.

    With the cells of more than one member x is [members, ...]. The result has grad's dtype and the shape and memory
    format of x.

    Raises:
        UsageError: x is float64, which the kernel would round, or has another number of members.
    """
    _refuse_other_than_float(x)
    members, half = cells.shape[1], cells.shape[2] // 2
    kernel = _compiled(_source(_CELLS_PARAMETERS, _CELLS))
    return _multiply(kernel, grad, x, cells, members, half, 1 / (half * (1 - MARGIN)))


def times_closed(grad: Tensor, x: Tensor, lowered: Lowered) -> Tensor:
    """grad * g(x) with g by its formula, in float32, as `lowered` computes it; each g is a kernel of its own.

    The result has grad's dtype and the shape and memory format of x.

    Raises:
        UsageError: x is float64, which the kernel would round.
    """
    _refuse_other_than_float(x)
    return _multiply(_closed(_Program(lowered)), grad, x)


def _refuse_other_than_float(x: Tensor) -> None:
    if x.dtype not in (torch.float32, torch.bfloat16, torch.float16):
        raise UsageError(
            f"the kernels compute in float32: x may be float32, bfloat16 or float16; given {x.dtype}. "
            "Use plain torch for it."
        )


def _multiply(
    kernel: Any, grad: Tensor, x: Tensor, table: Tensor | None = None, members: int = 1, *constants: int | float
) -> Tensor:
    result = torch.empty_like(x, dtype=grad.dtype)
    if members > 1 and x.shape[:1] != (members,):
        raise UsageError(f"g's of {members} members take x of shape [{members}, ...]; given {list(x.shape)}.")
    count = result.numel()
    if count == 0:
        return result
    operands = [result, _laid_out_as(result, grad), _laid_out_as(result, x), count]
    largest = count
    if table is not None:
        largest = max(count, table.numel())
        operands += [table.contiguous(), result.stride(0) if members > 1 else 1, members, members > 1, *constants]
    with torch.cuda.device_of(x):  # type: ignore[no-untyped-call]  # the current device may be another one
        kernel[(-(-count // _BLOCK),)](*operands, wide=largest > _WIDE_FROM, block=_BLOCK)
    return result


def _laid_out_as(result: Tensor, x: Tensor) -> Tensor:
    """x with the strides of `result`; torch.empty_like keeps those of a tensor without gaps only."""
    return x if x.stride() == result.stride() else torch.empty_like(result, dtype=x.dtype).copy_(x)


class _Program:
    """A closed form as a key. Equality would not do: a position and a number, 1 and 1.0, are equal."""

    def __init__(self, lowered: Lowered) -> None:
        self.lowered = lowered

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Program) and self.lowered is other.lowered

    def __hash__(self) -> int:
        return id(self.lowered)


@lru_cache(maxsize=256)
def _closed(program: _Program) -> Any:
    lowered = program.lowered
    lines = [_CLAMP]
    for number, (name, operands) in enumerate(lowered.steps, start=1):
        words = [_operand(value) for value in operands]
        power = _power(words[0], float(operands[1])) if name == "pow" else ""
        lines.append(f"v{number} = {TRITON[name].format(*words, power=power)}")
    if isinstance(lowered.result, float):
        lines.append(f"g = tl.full([block], {lowered.result * lowered.scale!r}, tl.float32)")
    else:
        scaled = "" if lowered.scale == 1 else f" * {_operand(lowered.scale)}"
        lines.append(f"g = v{lowered.result}{scaled}")
    return _compiled(_source("", "\n".join(lines)))


def _operand(value: int | float) -> str:
    if isinstance(value, int):
        return f"v{value}"
    return repr(value if abs(value) >= _SMALLEST else 0.0)


def _power(base: str, exponent: float) -> str:
    """The power as multiplications: base may be negative, and exp2(8 * log2(base)) would lose three digits."""
    whole, part = divmod(abs(exponent), 1.0)
    factors = [base] * int(whole)
    if part:
        factors.append(f"tl.exp2({part!r} * tl.log2({base}))")
    product = " * ".join(factors) or "tl.full([block], 1.0, tl.float32)"
    return product if exponent >= 0 else f"1.0 / ({product})"


@lru_cache(maxsize=8)
def _source(parameters: str, body: str) -> str:
    indented = "\n".join(f"    {line}" for line in body.splitlines())
    return f"{_FUNCTIONS}\n\n{_KERNEL.format(parameters=parameters, body=indented)}"


@lru_cache(maxsize=256)
def _compiled(source: str) -> Any:
    """The kernel in `source`. Triton reads a function's text from its file, so linecache is told of one."""
    name = f"<sugarsearch kernel {hashlib.blake2b(source.encode(), digest_size=8).hexdigest()}>"
    linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
    triton, language = _triton()
    names: dict[str, Any] = {"__name__": __name__, "triton": triton, "tl": language}
    exec(compile(source, name, "exec"), names)
    return names["sugar_gradient"]


def _triton() -> tuple[Any, Any]:
    return importlib.import_module("triton"), importlib.import_module("triton.language")
