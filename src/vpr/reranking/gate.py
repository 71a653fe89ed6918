"""Choose the queries to re-rank, and the weight of inliers.

Re-ranking corrects queries that the descriptor confuses, but also breaks some that were right. Two numbers, learnt on
the validation set, control this: the confidence below which a query is re-ranked, and the weight of inliers relative to
the similarity of the descriptors.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vpr.localization.confidence import Calibration

WEIGHTS = (0.02, 0.05, 0.1, 0.2, 0.4, 0.8)  # weights of the logarithm of inliers to try


@dataclass(frozen=True)
class Gate:
    """Selects queries whose confidence is below a threshold.

    Attributes:
        below: Threshold of the confidence; 0 selects no query.
        weight: Weight of inliers, see ``Compared.order``.
        fixed, broken: Number of validation queries whose first prediction became right, or wrong.
        calibration: Calibration of the confidence.
    """

    below: float
    weight: float
    fixed: int
    broken: int
    calibration: Calibration

    def as_dict(self) -> dict[str, Any]:
        """Return the attributes in plain types."""
        return asdict(self)


def learn_gate(
    confidence: NDArray[np.float64],
    before: NDArray[np.bool_],
    after: Callable[[float], NDArray[np.bool_]],
    calibration: Calibration,
) -> Gate:
    """Choose the threshold and the weight that gain most on the validation set, with a margin for chance.

    The choice maximises the gain minus its standard error, which is the square root of the number of queries that
    change. If this is not positive for any choice, the gate selects no query.

    Args:
        confidence: Confidence in each query's first prediction.
        before: Mask of the queries whose first prediction is right before re-ranking.
        after: Function of a weight of inliers that returns this mask after re-ranking.
        calibration: Calibration of the confidence.
    """
    order = np.argsort(confidence, kind="stable")
    ranked = confidence[order]
    last = np.append(np.diff(ranked) > 0, True)  # queries of equal confidence are selected together
    best, most = Gate(0.0, 0.0, 0, 0, calibration), 0.0
    for weight in WEIGHTS:
        right = after(weight)
        fixed, broken = (np.cumsum(changed[order]) for changed in (~before & right, before & ~right))
        sure = np.where(last, fixed - broken - np.sqrt(fixed + broken), -np.inf)
        k = int(np.argmax(sure))
        if sure[k] > most:
            most = float(sure[k])
            below = float((ranked[k] + ranked[k + 1]) / 2) if k + 1 < len(ranked) else 1.0
            best = Gate(below, weight, int(fixed[k]), int(broken[k]), calibration)
    return best
