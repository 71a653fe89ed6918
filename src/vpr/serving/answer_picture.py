"""Draw an answer as a picture: the photo, the nearest database photos, and a map. ``vpr localize --pictures``."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps

from vpr.serving.answers import Answer
from vpr.serving.answers_page import AnswersPage
from vpr.serving.photos import from_file, read_photo

WIDTH, TOP, ROW, GAP = 1000, 400, 170, 12
INK, SOFT, DOT, BLUE, GREEN, PAPER = "#1a1c1f", "#5a6068", "#b9bfc6", "#0b57a4", "#14713a", "#ffffff"


def answer_picture(page: AnswersPage, answer: Answer, photo: Image.Image) -> Image.Image:
    """Draw an answer, 1000 pixels wide.

    Args:
        page: Map and photos of the database.
        answer: The answer.
        photo: Photo that was located.
    """
    picture = Image.new("RGB", (WIDTH, TOP + ROW + 3 * GAP + 24), PAPER)
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(16)
    half = (WIDTH - 3 * GAP) // 2
    picture.paste(ImageOps.contain(photo, (half, TOP - 60)), (GAP, GAP))
    for line, text in enumerate((answer.place_in_words(), answer.confidence_in_words())):
        draw.text((GAP, TOP - 40 + 22 * line), text, INK if line == 0 else SOFT, font)
    _draw_map(draw, (2 * GAP + half, GAP, WIDTH - GAP, TOP), page, answer)
    across = (WIDTH - GAP) // 5 - GAP
    for k, found in enumerate(answer.predictions[:5]):
        left, top = GAP + k * (across + GAP), TOP + 2 * GAP
        path = page.path_of(found.image)
        if path is not None:
            near = read_photo(from_file(path), found.image)
            picture.paste(ImageOps.fit(near, (across, ROW - 30)), (left, top))
        draw.text((left, top + ROW - 26), f"{k + 1}. similarity {found.similarity:.3f}", SOFT, font)
    return picture


def _draw_map(draw: ImageDraw.ImageDraw, box: tuple[int, int, int, int], page: AnswersPage, answer: Answer) -> None:
    """Draw the database as dots, the predictions as rings and the answer as a filled circle; north is up."""
    rings = [place for each in answer.predictions if (place := page.map_position(each)) is not None]
    points = np.array([*page.dots, *rings], dtype=float).reshape(-1, 2)
    if not len(points):
        return
    left, top, right, bottom = box
    draw.rectangle(box, outline=DOT)
    low, span = points.min(axis=0), max(float(np.ptp(points, axis=0).max()), 1.0)
    scale = (min(right - left, bottom - top) - 4 * GAP) / span

    def at(point: Any) -> tuple[float, float]:
        x, y = (np.asarray(point, dtype=float) - low) * scale
        return left + 2 * GAP + float(x), bottom - 2 * GAP - float(y)

    def circle(point: Any, radius: float, **colours: Any) -> None:
        x, y = at(point)
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), **colours)

    for point in page.dots:
        circle(point, 1.2, fill=DOT)
    for point in rings:
        circle(point, 7, outline=BLUE, width=2)
    here = page.map_position(answer) if answer.known else None
    if here is not None:
        circle(here, 4, fill=GREEN)
