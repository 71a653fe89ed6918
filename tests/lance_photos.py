"""Photos for an index in LanceDB, and their descriptors, drawn."""

from __future__ import annotations

import numpy as np
import pandas as pd

from vpr.localization.index_files import IndexFacts

DIM = 32
FACTS = IndexFacts("abc", "", "photos", 25.0)


def photos(number: int, first: int = 0, seed: int = 0) -> tuple[pd.DataFrame, np.ndarray]:
    """Rows and descriptors of photos around Turin."""
    rng = np.random.default_rng([seed, first])
    rows = pd.DataFrame(
        {
            "image": [f"{k}.jpg" for k in range(first, first + number)],
            "utm_east": rng.uniform(390_000, 400_000, number),
            "utm_north": rng.uniform(4_990_000, 5_000_000, number),
            "utm_zone": "32T",
            "place_id": "",
            "heading": rng.uniform(0, 360, number),
            "timestamp": rng.choice(["201806", "201907", "202001"], number),
            "weather": rng.choice(["sun", "rain"], number),
        }
    )
    descriptors = rng.standard_normal((number, DIM), dtype=np.float32)
    return rows, descriptors / np.linalg.norm(descriptors, axis=1, keepdims=True)
