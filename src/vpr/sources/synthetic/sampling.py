"""Choose camera positions: training places, and the database and queries of an evaluation set."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vpr.sources.synthetic.city import City
from vpr.sources.synthetic.conditions import Camera

MARGIN_M = 8.0  # smallest distance of a photo from the end of a street


@dataclass(frozen=True)
class Spot:
    """A point on the centre line of a street, in the city frame."""

    x: float
    y: float
    direction: float  # direction of the street in the city frame, in radians
    half_width: float
    pavement: float


def street_spots(city: City, spacing_m: float) -> list[Spot]:
    """Return points every ``spacing_m`` along the inner streets; cameras never enter the outermost blocks."""
    spots = []
    for streets, other, along_x in ((city.street_y, city.street_x, True), (city.street_x, city.street_y, False)):
        low, high = other[1, 0] + MARGIN_M, other[-2, 0] - MARGIN_M
        for centre, half_width, pavement in streets[2:-2]:
            for at in np.arange(low, high, spacing_m):
                x, y = (at, centre) if along_x else (centre, at)
                spots.append(
                    Spot(float(x), float(y), 0.0 if along_x else np.pi / 2, float(half_width), float(pavement))
                )
    return spots


def distant_spots(city: City, num: int, apart_m: float, rng: np.random.Generator) -> list[Spot]:
    """Return up to ``num`` points of the streets, any two of them at least ``apart_m`` apart."""
    spots = street_spots(city, 11.0)
    chosen: list[Spot] = []
    cells: dict[tuple[int, int], list[Spot]] = {}
    for k in rng.permutation(len(spots)):
        if len(chosen) >= num:
            break
        spot = spots[k]
        i, j = int(spot.x // apart_m), int(spot.y // apart_m)
        near = [s for a in (i - 1, i, i + 1) for b in (j - 1, j, j + 1) for s in cells.get((a, b), [])]
        if all(np.hypot(s.x - spot.x, s.y - spot.y) >= apart_m for s in near):
            chosen.append(spot)
            cells.setdefault((i, j), []).append(spot)
    return chosen


def car_camera(rng: np.random.Generator, spot: Spot, direction: float, wobble: float) -> Camera:
    """Return the camera of a car near a spot, at ``direction`` with a standard deviation of ``wobble`` radians."""
    return _camera(rng, spot, 0.35 * spot.half_width, direction + wobble * rng.normal(), 2.5, 0.1, 0.03, (75, 85))


def hand_camera(rng: np.random.Generator, spot: Spot, direction: float, wobble: float) -> Camera:
    """Return a phone's camera on the edge of the carriageway or on the pavement."""
    reach = spot.half_width + 0.6 * spot.pavement
    return _camera(rng, spot, reach, direction + wobble * rng.normal(), 1.65, 0.08, 0.06, (62, 78))


def _camera(
    rng: np.random.Generator,
    spot: Spot,
    reach: float,
    direction: float,
    height: float,
    height_sd: float,
    tilt: float,
    field_of_view: tuple[float, float],
) -> Camera:
    across = rng.uniform(-reach, reach)
    cos, sin = np.cos(spot.direction), np.sin(spot.direction)
    return Camera(
        x=float(spot.x - across * sin),
        y=float(spot.y + across * cos),
        height=float(height + height_sd * rng.normal()),
        direction=float(direction),
        pitch=float(0.06 + tilt * rng.normal()),
        roll=float(tilt * 0.6 * rng.normal()),
        field_of_view=float(np.radians(rng.uniform(*field_of_view))),
    )


def shift(spot: Spot, metres: float) -> Spot:
    """Return the spot ``metres`` further along its street."""
    return Spot(
        spot.x + metres * float(np.cos(spot.direction)),
        spot.y + metres * float(np.sin(spot.direction)),
        spot.direction,
        spot.half_width,
        spot.pavement,
    )


def headings(spot: Spot, num: int) -> NDArray[np.float64]:
    """Return ``num`` evenly spaced directions, offset by half a step from the street."""
    return spot.direction + (np.arange(num, dtype=np.float64) + 0.5) * (2 * np.pi / num)
