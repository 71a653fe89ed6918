"""Which queries deserve a second look: those whose first prediction is doubtful.

Re-ranking finds what a descriptor confuses, and breaks some of what it had right. The confidence of the first
prediction tells the two apart; below which confidence a second look pays is learnt on the validation set.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vpr.localization.confidence import Calibration


@dataclass(frozen=True)
class Gate:
    """Looks again where the confidence is below a threshold.

    Attributes:
        below: the threshold; 0 looks at none.
        fixed, broken: queries of the validation set whose first prediction became right, or wrong, below it.
        calibration: of the confidence.
    """

    below: float
    fixed: int
    broken: int
    calibration: Calibration

    def as_dict(self) -> dict[str, Any]:
        """Plain types."""
        return asdict(self)


def learn_gate(
    confidence: NDArray[np.float64], before: NDArray[np.bool_], after: NDArray[np.bool_], calibration: Calibration
) -> Gate:
    """The threshold at which most is gained on the validation set, with a margin for chance.

    Of the thresholds the one with the greatest gain less its standard error, the root of the number of queries that
    change; none, if that is not above 0.

    Args:
        confidence: of each query's first prediction.
        before, after: whether the first prediction is right, without and with a second look.
    """
    order = np.argsort(confidence, kind="stable")
    fixed = np.cumsum((~before & after)[order])
    broken = np.cumsum((before & ~after)[order])
    sure = fixed - broken - np.sqrt(fixed + broken)
    # Queries of equal confidence pass together.
    last = np.append(np.diff(confidence[order]) > 0, True)
    candidates = np.flatnonzero(last & (sure > 0))
    if not len(candidates):
        return Gate(0.0, 0, 0, calibration)
    best = int(candidates[np.argmax(sure[candidates])])
    ranked = confidence[order]
    below = float((ranked[best] + ranked[best + 1]) / 2) if best + 1 < len(ranked) else 1.0
    return Gate(below, int(fixed[best]), int(broken[best]), calibration)
