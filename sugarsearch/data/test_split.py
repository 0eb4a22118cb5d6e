"""The only door to test data. Nothing but the verdict may import this module; a test reads the imports."""

from __future__ import annotations

from sugarsearch.config.schema import DataConfig
from sugarsearch.data.arrays import Arrays
from sugarsearch.data.sources import open_split
from sugarsearch.data.splits import subset
from sugarsearch.data.stratify import TEST_SUBSET


def open_test(config: DataConfig) -> Arrays:
    """The test part of a data set, cut to `test_limit`.

    Raises:
        DataError: the data set has no test part, or it is missing or unfit.
        UsageError: `test_limit` is larger than the test part.
    """
    return subset(open_split(config, "test"), config.test_limit, config.split_seed, TEST_SUBSET)
