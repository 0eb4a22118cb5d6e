"""A closed form for one kernel: sigmoid(a) and sigmoid(-a) out of one exponential.

Most derivatives of activations have both. As two operations they are two exponentials and two divisions, which is most
of what such a kernel computes. One minus the other would lose the digits of the small one.
"""

from __future__ import annotations

import dataclasses

from sugarsearch.nn.lowering import Lowered

Operand = int | float
Argument = tuple[float, int]
"""A factor, and the value it is multiplied with."""


def share_exponentials(program: Lowered) -> Lowered:
    """The same g; `program` itself where no sigmoid has a partner."""
    return _Rewriting(program).result()


class _Rewriting:
    def __init__(self, program: Lowered) -> None:
        self._program = program
        self._steps: list[tuple[str, tuple[Operand, ...]]] = []
        self._place = {0: 0}  # of an old value among the new ones
        self._halves: dict[Argument, tuple[int, int]] = {}
        sigmoids = [operands[0] for name, operands in program.steps if name == "sigmoid"]
        found = {self._argument(operand) for operand in sigmoids if isinstance(operand, int)}
        self._paired = {(factor, value) for factor, value in found if (-factor, value) in found}

    def result(self) -> Lowered:
        if not self._paired:
            return self._program
        for number, (name, operands) in enumerate(self._program.steps, start=1):
            operand = operands[0]
            if name == "sigmoid" and isinstance(operand, int) and self._argument(operand) in self._paired:
                self._place[number] = self._sigmoid(self._argument(operand))
            else:
                self._place[number] = self._add(name, *map(self._moved, operands))
        return dataclasses.replace(self._program, steps=tuple(self._steps), result=self._moved(self._program.result))

    def _argument(self, value: int) -> Argument:
        """A value of the old program as a multiple of another."""
        name, operands = self._program.steps[value - 1] if value else ("", ())
        match name, operands:
            case "neg", (int(a),):
                return -1.0, a
            case "mul", (float(factor), int(a)) | (int(a), float(factor)):
                return factor, a
        return 1.0, value

    def _sigmoid(self, argument: Argument) -> int:
        """1 / (1 + e) for a positive argument and e / (1 + e) for another, with e = exp(-|argument|)."""
        factor, value = argument
        key = (abs(factor), value)
        if key not in self._halves:
            size = self._add("mul", -abs(factor), self._add("abs", self._place[value]))
            e = self._add("exp", size)
            large = self._add("div", 1.0, self._add("add", 1.0, e))
            self._halves[key] = large, self._add("mul", e, large)
        large, small = self._halves[key]
        above, below = (large, small) if factor > 0 else (small, large)
        return self._add("if_positive", self._place[value], above, below)

    def _add(self, name: str, *operands: Operand) -> int:
        self._steps.append((name, operands))
        return len(self._steps)

    def _moved(self, operand: Operand) -> Operand:
        return self._place[operand] if isinstance(operand, int) else operand
