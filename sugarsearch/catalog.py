"""What names a configuration may use: surrogates, operators, families, models and data sets. Loads no torch."""

from __future__ import annotations

from sugarsearch.config.fields import OptionValue
from sugarsearch.data.catalog import kind_of
from sugarsearch.errors import UnknownNameError, UsageError
from sugarsearch.models.catalog import check_model
from sugarsearch.symbolic.library import family, is_file_name, surrogate
from sugarsearch.symbolic.operators import OPERATORS


class Catalogue:
    """The names of the layers below; implements `config.schema.Names`, whose docstring states the contract."""

    def surrogate(self, text: str) -> None:
        """Refuse text that is neither a known surrogate nor an expression of x.

        A file may change while a study lasts, so that a study holds the text itself.
        """
        if is_file_name(text):
            raise UsageError(f"{text!r} is a file; write the g that stands under its search.queue instead.")
        surrogate(text)

    def operator(self, name: str, arity: int) -> None:
        """Refuse an operator that does not exist or takes another number of arguments."""
        fitting = [known for known, operator in OPERATORS.items() if operator.arity == arity]
        if name not in OPERATORS:
            raise UnknownNameError("operator", name, fitting)
        if name not in fitting:
            raise UsageError(
                f"operator {name!r} takes {_arguments(OPERATORS[name].arity)}; those that take "
                f"{_arguments(arity)}: {', '.join(fitting)}."
            )

    def family(self, text: str, parameters: frozenset[str]) -> None:
        """Refuse a family that cannot be read, or that lacks one of `parameters`."""
        family(text, parameters)

    def model(self, name: str, options: dict[str, OptionValue]) -> None:
        """Refuse an unknown model or option; `package.module:factory` is checked when it is built."""
        check_model(name, options)

    def data(self, name: str, root: str | None) -> None:
        """Refuse a name that is no data set (known, or imported under `root`), no folder and no loader."""
        kind_of(name, root)


def _arguments(arity: int) -> str:
    return "one argument" if arity == 1 else f"{arity} arguments"
