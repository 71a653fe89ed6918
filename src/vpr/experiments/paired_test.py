"""Test whether one run is better than another on the same queries."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import binomtest

from vpr.config.errors import UserError


@dataclass(frozen=True)
class PairedTest:
    """Comparison of two runs on the same queries.

    Attributes:
        num_queries: Number of queries.
        only_first, only_second: Number of queries whose first prediction is right in only one run.
        difference: Recall@1 of the second run minus that of the first.
        interval: Bootstrap interval of the difference, 95 %.
        p_value: Two-sided p-value of McNemar's exact test: the probability of such a difference by chance.
    """

    num_queries: int
    only_first: int
    only_second: int
    difference: float
    interval: tuple[float, float]
    p_value: float


def paired_test(one: pd.Series, two: pd.Series, draws: int = 20_000, seed: int = 0) -> PairedTest:
    """Compare two runs on one evaluation set.

    Args:
        one, two: Whether each query's first prediction is a positive, by query; see ``first_is_positive``.
        draws: Number of bootstrap samples.
        seed: Seed of the bootstrap.

    Raises:
        UserError: if the queries differ.
    """
    if len(one) != len(two) or set(one.index) != set(two.index):
        raise UserError(
            f"the runs were evaluated on different queries ({len(one)} and {len(two)}, "
            f"{len(set(one.index) & set(two.index))} in common); compare runs on the same evaluation set"
        )
    gain = two.loc[one.index].to_numpy().astype(int) - one.to_numpy().astype(int)
    only_second, only_first, number = int((gain == 1).sum()), int((gain == -1).sum()), len(gain)
    differing = only_first + only_second
    p_value = float(binomtest(only_second, differing, 0.5).pvalue) if differing else 1.0
    # Drawing queries with replacement means drawing the number of each kind.
    kinds = np.array([only_second, only_first, number - differing]) / number
    drawn = np.random.default_rng(seed).multinomial(number, kinds, size=draws)
    low, high = np.percentile((drawn[:, 0] - drawn[:, 1]) / number, [2.5, 97.5])
    return PairedTest(number, only_first, only_second, float(gain.mean()), (float(low), float(high)), p_value)


def in_words(name: str, first: str, second: str, test: PairedTest, significance: float = 0.05) -> str:
    """Describe a paired test in a sentence; a p-value below ``significance`` is more than chance."""
    low, high = (100 * v for v in test.interval)
    verdict = "more than chance" if test.p_value < significance else "may be chance"
    points = f"{100 * test.difference:+.1f} points (95 % {low:+.1f} to {high:+.1f}), p = {test.p_value:.2g}: {verdict}"
    return (
        f"{name}: {second} finds {test.only_second} queries that {first} does not, and misses {test.only_first} that "
        f"it finds, of {test.num_queries}; recall@1 {points}"
    )
