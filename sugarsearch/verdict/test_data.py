"""The door to the test split: the one module, of those that a study runs, that can open it.

Jobs of the final stage name `OPEN` as their scoring data, so a worker opens the split without the layers below
knowing that it exists.
"""

from __future__ import annotations

from typing import Final

from sugarsearch.config.schema import DataConfig
from sugarsearch.data.arrays import Arrays
from sugarsearch.data.test_split import open_test

OPEN: Final = f"{__name__}:open_scoring"


def open_scoring(config: DataConfig) -> Arrays:
    """The test split of a recipe's data set.

    Raises:
        DataError: the data set has none, or it is damaged.
    """
    return open_test(config)


def require(config: DataConfig) -> None:
    """Refuse a data set without a usable test split before hours of screening; hands nothing out.

    Raises:
        DataError: as `open_scoring`.
    """
    open_test(config)
