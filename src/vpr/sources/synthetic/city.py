"""The map of a procedural city: streets, buildings, trees and lamps.

A city is an irregular grid of streets. Coordinates inside a city are metres in its own frame,
whose axes follow the streets; ``City.to_utm`` turns and shifts them to real UTM coordinates.
The same seed gives the same city on every machine.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# Columns of ``City.buildings``, one row per box.
X0, X1, Y0, Y1, HEIGHT, ROOF, FLOOR, BAY, STYLE, SHOP = range(10)
# Columns of ``City.trees`` and ``City.lamps``: position, then height and canopy radius of trees.
CELL_M = 32.0

YARD_WALL, HOUSE, TOWER = 0.0, 1.0, 2.0  # values of STYLE


@dataclass(frozen=True)
class City:
    """A city's map.

    Args:
        name: Name in file names.
        seed: Seed of everything that is random in the city.
        origin: UTM east and north, in metres, of the city frame's origin.
        angle: Angle from east to the x axis of the city frame, counter-clockwise, in radians.
        zone: UTM zone number and band letter, such as ``(32, "T")``.
        street_x, street_y: ``(n, 3)`` centre line, half width of the carriageway, width of a pavement.
        buildings: ``(n, 10)``, see the column names above.
        building_ids: ``(n,)`` what paint, signs and windows of a building are drawn from.
        trees: ``(n, 4)`` x, y, height of the canopy's centre, radius of the canopy.
        lamps: ``(n, 2)`` x, y.
        cell_start, cell_items: Buildings by grid cell; cell ``(i, j)`` holds
            ``cell_items[cell_start[i * rows + j] : cell_start[i * rows + j + 1]]``.
        tree_start, tree_items: The same for trees.
        shape: Number of cells along x and along y.
    """

    name: str
    seed: int
    origin: tuple[float, float]
    angle: float
    zone: tuple[int, str]
    street_x: NDArray[np.float64]
    street_y: NDArray[np.float64]
    buildings: NDArray[np.float64]
    building_ids: NDArray[np.int64]
    trees: NDArray[np.float64]
    lamps: NDArray[np.float64]
    cell_start: NDArray[np.int64]
    cell_items: NDArray[np.int64]
    tree_start: NDArray[np.int64]
    tree_items: NDArray[np.int64]
    shape: tuple[int, int]

    def to_utm(self, x: float, y: float) -> tuple[float, float]:
        """Return UTM east and north of a point of the city frame."""
        cos, sin = np.cos(self.angle), np.sin(self.angle)
        return (
            float(self.origin[0] + cos * x - sin * y),
            float(self.origin[1] + sin * x + cos * y),
        )

    def compass(self, direction: float) -> float:
        """Return the compass heading, in degrees clockwise from north, of a direction of the city frame in radians."""
        return float(np.degrees(np.pi / 2 - direction - self.angle) % 360)


def build_city(
    name: str, seed: int, blocks: tuple[int, int], zone: tuple[int, str], origin: tuple[float, float]
) -> City:
    """Lay out a city of ``blocks`` blocks along x and y (about 90 m each)."""
    rng = np.random.default_rng([seed, 0])
    street_x, street_y = _streets(rng, blocks[0]), _streets(rng, blocks[1])
    boxes: list[tuple[float, ...]] = []
    trees: list[tuple[float, ...]] = []
    for i in range(blocks[0]):
        for j in range(blocks[1]):
            # Each block has its own generator, so that a larger city extends a smaller one.
            block_rng = np.random.default_rng([seed, 1, i, j])
            west = street_x[i, 0] + street_x[i, 1] + street_x[i, 2]
            east = street_x[i + 1, 0] - street_x[i + 1, 1] - street_x[i + 1, 2]
            south = street_y[j, 0] + street_y[j, 1] + street_y[j, 2]
            north = street_y[j + 1, 0] - street_y[j + 1, 1] - street_y[j + 1, 2]
            if block_rng.random() < 0.07:
                _park(block_rng, west, east, south, north, trees)
            else:
                _block(block_rng, west, east, south, north, boxes, trees)
    lamps: list[tuple[float, float]] = []
    _furnish(np.random.default_rng([seed, 2]), street_x, street_y, trees, lamps)
    buildings = np.array(boxes, dtype=np.float64).reshape(-1, 10)
    tree_array = np.array(trees, dtype=np.float64).reshape(-1, 4)
    shape = (int(street_x[-1, 0] // CELL_M) + 2, int(street_y[-1, 0] // CELL_M) + 2)
    centres = np.stack([buildings[:, [X0, X1]].mean(1), buildings[:, [Y0, Y1]].mean(1)], axis=1)
    cell_start, cell_items = _bucket(centres, shape)
    tree_start, tree_items = _bucket(tree_array[:, :2], shape)
    return City(
        name=name,
        seed=seed,
        origin=origin,
        angle=float(rng.uniform(-0.7, 0.7)),
        zone=zone,
        street_x=street_x,
        street_y=street_y,
        buildings=buildings,
        building_ids=np.random.default_rng([seed, 3]).integers(1, 2**31, len(buildings)),
        trees=tree_array,
        lamps=np.array(lamps, dtype=np.float64).reshape(-1, 2),
        cell_start=cell_start,
        cell_items=cell_items,
        tree_start=tree_start,
        tree_items=tree_items,
        shape=shape,
    )


def _streets(rng: np.random.Generator, num_blocks: int) -> NDArray[np.float64]:
    spacing = rng.uniform(62, 118, num_blocks)
    centre = np.concatenate([[0.0], np.cumsum(spacing)]) + 20.0
    kind = rng.choice([0, 1, 2], num_blocks + 1, p=[0.3, 0.5, 0.2])  # lane, street, avenue
    half_width = np.choose(kind, [2.8, 4.2, 7.2]) + rng.uniform(-0.3, 0.5, num_blocks + 1)
    pavement = np.choose(kind, [1.6, 2.8, 4.5]) + rng.uniform(-0.2, 0.6, num_blocks + 1)
    return np.stack([centre, half_width, pavement], axis=1)


def _building(
    rng: np.random.Generator, district: tuple[float, float], box: tuple[float, float, float, float]
) -> tuple[float, ...]:
    floors_mean, shops = district
    style = HOUSE if rng.random() > 0.12 else TOWER
    floors = max(1, round(rng.normal(floors_mean, 1.1)) + (4 if style == TOWER else 0))
    floor = rng.uniform(2.9, 3.9)
    roof = 0.0 if style == TOWER or rng.random() < 0.45 else rng.uniform(0.45, 1.1)  # slope; 0 is flat
    return (*box, 0.8 + floors * floor, roof, floor, rng.uniform(1.7, 3.6), style, float(rng.random() < shops))


def _block(
    rng: np.random.Generator,
    west: float,
    east: float,
    south: float,
    north: float,
    boxes: list[tuple[float, ...]],
    trees: list[tuple[float, ...]],
) -> None:
    district = (float(rng.choice([2.0, 3.0, 4.5, 6.0], p=[0.25, 0.35, 0.3, 0.1])), float(rng.choice([0.1, 0.45, 0.8])))
    setback = float(rng.choice([0.0, 0.0, 0.0, 1.5, 3.5]))
    depth = rng.uniform(9, 14)
    width = east - west
    height = north - south
    for along_x, low, high, front, inward in (
        (True, west, east, south, 1),
        (True, west, east, north, -1),
        (False, south + depth, south + height - depth, west, 1),
        (False, south + depth, south + height - depth, east, -1),
    ):
        at = low
        while at < high - 4:
            lot = min(rng.uniform(6, 19), high - at)
            if high - at - lot < 5:
                lot = high - at
            gap = rng.random()
            back = front + inward * min(depth + rng.uniform(-2, 2), (height if along_x else width) / 2 - 1)
            face = front + inward * (setback + rng.choice([0.0, 0.0, 0.3, 0.9]))
            if gap < 0.08:  # a yard behind a wall, with a tree
                back = front + inward * 0.3
                face = front
                trees.append(
                    (at + lot / 2, front + inward * 5, rng.uniform(4, 6), rng.uniform(1.8, 2.8))
                    if along_x
                    else (front + inward * 5, at + lot / 2, rng.uniform(4, 6), rng.uniform(1.8, 2.8))
                )
            near, far = sorted((face, back))
            box = (at, at + lot, near, far) if along_x else (near, far, at, at + lot)
            if gap < 0.08:
                boxes.append((*box, rng.uniform(1.2, 2.4), 0.0, 3.0, 2.0, YARD_WALL, 0.0))
            else:
                if gap < 0.2:  # a passage to the next house
                    side = rng.uniform(0.8, 2.5)
                    box = (box[0], box[1] - side, *box[2:]) if along_x else (*box[:3], box[3] - side)
                boxes.append(_building(rng, district, box))
            at += lot


def _park(
    rng: np.random.Generator, west: float, east: float, south: float, north: float, trees: list[tuple[float, ...]]
) -> None:
    for _ in range(int((east - west) * (north - south) / 110)):
        x, y = rng.uniform(west + 2, east - 2), rng.uniform(south + 2, north - 2)
        trees.append((x, y, rng.uniform(4, 7.5), rng.uniform(1.8, 3.6)))


def _furnish(
    rng: np.random.Generator,
    street_x: NDArray[np.float64],
    street_y: NDArray[np.float64],
    trees: list[tuple[float, ...]],
    lamps: list[tuple[float, float]],
) -> None:
    """Place trees along some streets, and lamps along all."""
    for streets, crossings, along_x in ((street_y, street_x, True), (street_x, street_y, False)):
        for centre, half_width, pavement in streets:
            for k in range(len(crossings) - 1):
                low = crossings[k, 0] + crossings[k, 1] + 6
                high = crossings[k + 1, 0] - crossings[k + 1, 1] - 6
                lined = pavement > 2.2 and rng.random() < 0.4
                spacing = rng.uniform(8, 14)
                for side in (-1, 1):
                    across = centre + side * (half_width + 0.6)
                    for at in np.arange(low, high, 26.0) + rng.uniform(0, 6):
                        lamps.append((at, across) if along_x else (across, at))
                    if lined:
                        for at in np.arange(low + 3, high, spacing):
                            if rng.random() < 0.15:
                                continue
                            at += rng.uniform(-0.8, 0.8)
                            radius = rng.uniform(1.2, 2.3)
                            x, y = (at, across + side * 0.3) if along_x else (across + side * 0.3, at)
                            trees.append((x, y, rng.uniform(3.6, 5.2) + radius * 0.3, radius))


def _bucket(points: NDArray[np.float64], shape: tuple[int, int]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    cells = np.clip((points // CELL_M).astype(np.int64), 0, np.array(shape) - 1)
    flat = cells[:, 0] * shape[1] + cells[:, 1]
    order = np.argsort(flat, kind="stable")
    start = np.searchsorted(flat[order], np.arange(shape[0] * shape[1] + 1))
    return start.astype(np.int64), order.astype(np.int64)
