"""Draw queries beside the candidates that re-ranking prefers, with the keypoints that agree."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from vpr.reranking.compare import features_of, shrunk
from vpr.reranking.local_features import inliers
from vpr.reranking.params import RerankParams
from vpr.reranking.rerank_sets import RerankedSet

NUM_DRAWN = 6  # drawings of each set
HEIGHT_PX, GAP_PX, MAX_LINES = 200, 6, 60
_LINE, _POINT = (0, 158, 115), (213, 94, 0)  # from Okabe and Ito's palette, which suits most kinds of colour blindness


def draw_matches(reranked: RerankedSet, params: RerankParams, folder: Path) -> None:
    """Write JPEGs and ``drawn.json`` of queries whose first prediction changed, fixed ones before broken ones."""
    before, after = reranked.candidates.predictions, reranked.predictions
    changed = np.flatnonzero(before.ranking[:, 0] != after.ranking[:, 0])
    right = None if after.is_positive is None else after.is_positive[:, 0]
    was_right = None if before.is_positive is None else before.is_positive[:, 0]
    if right is not None and was_right is not None:
        fixed, broken = changed[(right & ~was_right)[changed]], changed[(was_right & ~right)[changed]]
        changed = np.concatenate([fixed[: NUM_DRAWN - min(2, len(broken))], broken[:2]])
    folder.mkdir(parents=True, exist_ok=True)
    drawn: list[dict[str, Any]] = []
    described = reranked.candidates.described
    for row in changed[:NUM_DRAWN]:
        match = int(after.ranking[row, 0])
        picture, number = side_by_side(described.queries.paths[row], described.database.paths[match], params)
        picture.save(folder / f"{len(drawn)}.jpg", quality=80)
        drawn.append(
            {
                "query": str(after.queries[row]),
                "prediction": str(after.images[row, 0]),
                "instead_of": str(before.images[row, 0]),
                "inliers": number,
                "right": None if right is None else bool(right[row]),
                "was_right": None if was_right is None else bool(was_right[row]),
            }
        )
    (folder / "drawn.json").write_text(json.dumps(drawn, indent=2) + "\n", encoding="utf-8")


def side_by_side(query: Path, candidate: Path, params: RerankParams) -> tuple[Image.Image, int]:
    """Draw two images with lines between the keypoints that agree, and return the number of these keypoints."""
    features = features_of(params.features, params.num_keypoints)
    images = [shrunk(path, params.max_side_px) for path in (query, candidate)]
    one, other = (features.detect(image) for image in images)
    pairs = features.matches(one, other)
    agree = pairs[inliers(one.points[pairs[:, 0]], other.points[pairs[:, 1]])]
    scales = [HEIGHT_PX / image.shape[0] for image in images]
    small = [
        Image.fromarray(image).resize((max(1, round(image.shape[1] * scale)), HEIGHT_PX))
        for image, scale in zip(images, scales, strict=True)
    ]
    offset = small[0].width + GAP_PX
    picture = Image.new("RGB", (offset + small[1].width, HEIGHT_PX), "white")
    picture.paste(small[0], (0, 0))
    picture.paste(small[1], (offset, 0))
    pen = ImageDraw.Draw(picture)
    step = max(1, len(agree) // MAX_LINES)
    for mine, theirs in agree[::step]:
        (x0, y0), (x1, y1) = one.points[mine] * scales[0], other.points[theirs] * scales[1]
        pen.line([(float(x0), float(y0)), (float(x1) + offset, float(y1))], fill=_LINE, width=1)
        for x, y in ((x0, y0), (x1 + offset, y1)):
            pen.ellipse([x - 2, y - 2, x + 2, y + 2], outline=_POINT)
    return picture, len(agree)
