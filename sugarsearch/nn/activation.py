"""SugarReLU: a ReLU module whose backward pass uses a surrogate."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, Self, get_args

import torch
from torch import Tensor, nn

from sugarsearch.errors import UsageError
from sugarsearch.nn.codes import BITS, Codebook, codebook
from sugarsearch.nn.function import sugar_relu
from sugarsearch.nn.kernels.fused import Fused
from sugarsearch.nn.kernels.gradient import Closed, Derivative
from sugarsearch.nn.kernels.sigmoids import share_exponentials
from sugarsearch.nn.lean import lean_relu
from sugarsearch.nn.lowering import LoweredMembers, lower, lower_members
from sugarsearch.nn.table import tabulate
from sugarsearch.symbolic.library import surrogate as named_surrogate
from sugarsearch.symbolic.surrogate import Surrogate

Form = Literal["closed", "fused", "table"]


class SugarReLU(nn.Module):
    """relu(x), bit for bit, with the gradient grad * g(x).

    It has no parameters, no buffers and nothing in its state_dict. The dtype, device, memory format and shape of x
    are kept. Differentiating its gradient raises RuntimeError.

    Args:
        surrogate: g, or its name or text; a sequence makes a population: x is [members, ...], member i has the i-th g.
        form: "closed" computes g by its formula, a part of the compiled code; "table" looks it up by linear
            interpolation, so that torch.compile need not compile again for another g. The default is closed, and a
            table for a population. A population in closed form is faster where few g's have many members each,
            next to each other. "fused" is closed, but in eager mode on a CPU with a C++ compiler one kernel is compiled
            for the whole gradient, in a second or so; a population, and all without a compiler, is closed.
        lean: keep 8, 4 or 2 bits of each x for the backward pass in place of x, which saves memory in eager mode; g is
            then a step function with as many levels as that many bits tell apart (`book` states its error). In compiled
            code, which keeps nothing extra, g is exact. Not for a population or a table.
        inplace: only False; the backward pass needs x.

    Raises:
        UsageError: an empty population, an unknown form, a lean that cannot be, inplace=True.
    """

    def __init__(
        self,
        surrogate: Surrogate | str | Sequence[Surrogate],
        *,
        form: Form | None = None,
        lean: int | None = None,
        inplace: bool = False,
    ) -> None:
        super().__init__()
        if inplace:
            raise UsageError("SugarReLU cannot work in place: its backward pass needs x. Leave inplace=False.")
        if form not in (None, *get_args(Form)):
            raise UsageError(f"form {form!r} is not known; allowed are {', '.join(map(repr, get_args(Form)))}.")
        self.is_population = not isinstance(surrogate, (Surrogate, str))
        if lean is not None and (lean not in BITS or self.is_population or form == "table"):
            raise UsageError(
                f"lean={lean!r} is not possible here; it is {', '.join(map(str, BITS))} bits or None, and None for a "
                "population and form 'table'."
            )
        self.form: Form = form or ("table" if self.is_population else "closed")
        self.lean = lean
        self.book: Codebook | None = None
        self.derivative: Derivative
        self._traced: Closed | None = None
        self.set_surrogate(surrogate)

    def forward(self, x: Tensor) -> Tensor:
        if self.is_population and (x.dim() == 0 or x.shape[0] != self.members):
            raise UsageError(
                f"a SugarReLU population of {self.members} members takes x of shape "
                f"[{self.members}, ...]; given {list(x.shape)}."
            )
        if torch.compiler.is_compiling():
            return sugar_relu(x, self.derivative if self._traced is None else self._traced)
        return sugar_relu(x, self.derivative) if self.book is None else lean_relu(x, self.book)

    @property
    def members(self) -> int:
        """How many g's there are; 1 without a population."""
        return len(self.surrogates)

    @property
    def surrogate(self) -> Surrogate:
        """The g in use; of a population, the first member's."""
        return self.surrogates[0]

    def set_surrogate(self, surrogate: Surrogate | str | Sequence[Surrogate]) -> None:
        """Puts another g in. In table form with as many members the table is overwritten, and nothing recompiles.

        Raises:
            UsageError: a sequence where there is no population, or the reverse, or an empty one.
        """
        if isinstance(surrogate, (Surrogate, str)) == self.is_population:
            wanted = "a sequence of surrogates" if self.is_population else "one surrogate"
            raise UsageError(f"this SugarReLU takes {wanted}; given {surrogate!r}.")
        self.surrogates = _surrogates(surrogate)
        if self.form != "table":
            self._set_closed()
            if self.lean is not None:
                old = self.book
                self.book = codebook(self.surrogate, self.lean).to("cpu" if old is None else old.codes.device)
            return
        cells = tabulate(self.surrogates).cells
        old = getattr(self, "derivative", None)
        if isinstance(old, Tensor) and old.shape == cells.shape and not old.is_meta:
            old.copy_(cells)
        else:
            self.derivative = cells if old is None else cells.to(old.device)

    def _set_closed(self) -> None:
        """The closed form, and that for compiled code: made here, because not every version of torch can trace it."""
        if self.is_population:
            members = lower_members(self.surrogates)
            self.derivative = members
            self._traced = LoweredMembers(tuple((count, share_exponentials(g)) for count, g in members.runs))
            return
        closed = lower(self.surrogate)
        self.derivative = Fused(closed) if self.form == "fused" else closed
        self._traced = share_exponentials(closed)

    def select(self, indices: Tensor) -> None:
        """Keeps the members at `indices` (int64 [kept]) of a population, in that order.

        Raises:
            UsageError: no population, or no index.
        """
        if not self.is_population or indices.numel() == 0:
            raise UsageError("select keeps one or more members of a population; this SugarReLU or selection has none.")
        self.surrogates = tuple(self.surrogates[index] for index in indices.tolist())
        if isinstance(self.derivative, Tensor):
            self.derivative = self.derivative.index_select(1, indices.to(self.derivative.device))
        else:
            self._set_closed()

    def extra_repr(self) -> str:
        if self.is_population:
            return f"{self.members} members, form={self.form}"
        lean = "" if self.lean is None else f", lean={self.lean}"
        return f"g(x) = {self.surrogate.formula}, form={self.form}{lean}"

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """The table follows the module's device but stays float32: fn is applied to a probe. So do codes."""
        if isinstance(self.derivative, Tensor):
            old = self.derivative
            device = fn(torch.empty(0, dtype=torch.uint8, device=old.device)).device
            if device != old.device:
                self.derivative = tabulate(self.surrogates).cells if old.is_meta else old
                self.derivative = self.derivative.to(device)
        if self.book is not None and self.lean is not None:
            device = fn(torch.empty(0, dtype=torch.uint8, device=self.book.codes.device)).device
            book = codebook(self.surrogate, self.lean) if self.book.codes.is_meta else self.book
            self.book = book.to(device)
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return self


def _surrogates(given: Surrogate | str | Sequence[Surrogate]) -> tuple[Surrogate, ...]:
    if isinstance(given, str):
        return (named_surrogate(given),)
    if isinstance(given, Surrogate):
        return (given,)
    if not given:
        raise UsageError("a population needs at least one surrogate; the sequence given is empty.")
    return tuple(given)
