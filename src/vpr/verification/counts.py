"""Compare the content of published sources with the expected content."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from vpr.data.manifest import DATABASE, QUERY, TRAIN


def sound_counts(sources: Mapping[str, Any], rows: pd.DataFrame, sound: Any) -> dict[str, Any]:
    """Return the counts of each source without unusable images."""
    counted = {}
    for name, source in sources.items():
        found = dict(source["found"])
        bad = rows[(rows["source"] == name).to_numpy() & ~sound].drop_duplicates("image")["role"]
        for what, role in (("images", TRAIN), ("database", DATABASE), ("queries", QUERY)):
            if what in found:
                found[what] -= int((bad == role).sum())
        if "places" in found:
            own = (rows["source"] == name).to_numpy() & (rows["place_id"] != "").to_numpy()
            found["places"] -= rows.loc[own, "place_id"].nunique() - rows.loc[own & sound, "place_id"].nunique()
        counted[name] = {**source, "found": found}
    return counted


def count_differences(sources: Mapping[str, Any]) -> list[str]:
    """Describe where the content of sources differs from the expected one."""
    differences = []
    for name, source in sorted(sources.items()):
        for what, expected in source["expected"].items():
            found = source["found"].get(what, 0)
            if isinstance(expected, list) and isinstance(expected[0], str):
                names = set(source["found"].get("city_names", []))
                missing, more = sorted(set(expected) - names), sorted(names - set(expected))
                words = [f"without {', '.join(missing)}"] if missing else []
                words += [f"unexpected: {', '.join(more)}"] if more else []
                if words:
                    differences.append(f"{name}: {found} {what}, {len(expected)} expected; {'; '.join(words)}")
                continue
            least, most = (expected, expected) if isinstance(expected, int) else expected
            if not least <= found <= most:
                wanted = f"{least:,}" if least == most else f"{least:,} to {most:,}"
                differences.append(f"{name}: {found:,} {what}, {wanted} expected")
    return differences
