"""Which queries deserve a second look, and how much what is seen there counts.

Re-ranking finds what a descriptor confuses, and breaks some of what it had right. Two numbers keep them apart, both
learnt on the validation set: below which confidence of the first prediction a second look pays, and how much inliers
weigh beside the similarity of the descriptors.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vpr.localization.confidence import Calibration

WEIGHTS = (0.02, 0.05, 0.1, 0.2, 0.4, 0.8)  # of the logarithm of inliers, that are tried


@dataclass(frozen=True)
class Gate:
    """Looks again where the confidence is below a threshold.

    Attributes:
        below: the threshold of the confidence; 0 looks at none.
        weight: of inliers, see ``Compared.order``.
        fixed, broken: queries of the validation set whose first prediction became right, or wrong, by these.
        calibration: of the confidence.
    """

    below: float
    weight: float
    fixed: int
    broken: int
    calibration: Calibration

    def as_dict(self) -> dict[str, Any]:
        """Plain types."""
        return asdict(self)


def learn_gate(
    confidence: NDArray[np.float64],
    before: NDArray[np.bool_],
    after: Callable[[float], NDArray[np.bool_]],
    calibration: Calibration,
) -> Gate:
    """The numbers by which most is gained on the validation set, with a margin for chance.

    Those with the greatest gain less its standard error, the root of the number of queries that change; no query is
    looked at, if that is not above 0.

    Args:
        confidence: of each query's first prediction.
        before: whether the first prediction is right without a second look.
        after: whether it is with one, for a weight of inliers.
    """
    order = np.argsort(confidence, kind="stable")
    ranked = confidence[order]
    last = np.append(np.diff(ranked) > 0, True)  # queries of equal confidence pass together
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
