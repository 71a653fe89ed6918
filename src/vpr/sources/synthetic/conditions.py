"""Draw the conditions of a photo: time, season, weather, traffic, paint and the camera."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from vpr.sources.synthetic.city import City

# Indices into ``Conditions.env``, which the renderer reads; a colour takes three numbers.
SUN, SUN_LIGHT, ZENITH, HORIZON, GRASS = 0, 3, 6, 9, 12
NIGHT, SNOW, WET, CLOUD, CLOUD_LIGHT, SEED, LEAF, LEAF_COLOUR, SKY_HAZE, HAZE = 15, 16, 17, 18, 19, 20, 21, 22, 25, 26
ENV_SIZE = 27

# Kinds of moving objects, as the renderer numbers them.
CAR, GLASS, PERSON = 1, 2, 5

SEASONS = ("winter", "spring", "summer", "autumn")
_WALLS = np.array(
    [
        [0.62, 0.55, 0.44], [0.72, 0.68, 0.6], [0.5, 0.2, 0.13], [0.38, 0.16, 0.11], [0.66, 0.47, 0.28],
        [0.45, 0.47, 0.48], [0.75, 0.73, 0.7], [0.55, 0.4, 0.3], [0.35, 0.42, 0.47], [0.6, 0.35, 0.25],
        [0.7, 0.6, 0.35], [0.36, 0.4, 0.3], [0.3, 0.29, 0.28], [0.68, 0.52, 0.47], [0.42, 0.5, 0.55],
        [0.75, 0.55, 0.15], [0.2, 0.32, 0.5], [0.55, 0.12, 0.12], [0.25, 0.45, 0.3], [0.7, 0.38, 0.42],
        [0.16, 0.17, 0.2], [0.8, 0.78, 0.72], [0.45, 0.25, 0.45],
    ]
)  # fmt: skip
_CARS = np.array(
    [[0.6, 0.6, 0.62], [0.03, 0.03, 0.035], [0.75, 0.75, 0.75], [0.25, 0.26, 0.28], [0.4, 0.04, 0.04],
     [0.05, 0.1, 0.3], [0.1, 0.16, 0.12], [0.55, 0.45, 0.1]]
)  # fmt: skip
_CAR_SHARES = (0.2, 0.2, 0.22, 0.18, 0.06, 0.08, 0.04, 0.02)


@dataclass(frozen=True)
class Camera:
    """A pinhole camera in the city frame: metres and radians.

    ``direction`` is counter-clockwise from the frame's x axis, ``field_of_view`` horizontal.
    """

    x: float
    y: float
    height: float
    direction: float
    pitch: float
    roll: float
    field_of_view: float


@dataclass(frozen=True)
class Lens:
    """Properties with which a camera turns light into a file."""

    exposure: float
    balance: tuple[float, float, float]
    blur_px: float
    noise: float
    vignette: float
    jpeg_quality: int


@dataclass(frozen=True)
class Look:
    """Variation of conditions.

    Args:
        variety: Variation of sun, season, weather, traffic, exposure and blur; 0 for clear days of the warm months, 1
            for the full range.
        night: Share of photos taken at night.
        years: First and last year of the photos.
    """

    variety: float
    night: float
    years: tuple[int, int]


@dataclass(frozen=True)
class Conditions:
    """Conditions of one photo; ``labels`` become columns of the manifest, and the renderer uses the rest."""

    year: int
    month: int
    labels: dict[str, str | float]
    env: NDArray[np.float64]
    lens: Lens
    paints: NDArray[np.float64] = field(repr=False)
    objects: NDArray[np.float64] = field(repr=False)


def sample_conditions(rng: np.random.Generator, city: City, look: Look, camera: Camera) -> Conditions:
    """Draw the conditions of one photo."""
    variety = look.variety
    year = int(rng.integers(look.years[0], look.years[1] + 1))
    free = rng.random() < variety
    month = int(rng.integers(1, 13)) if free else int(rng.integers(5, 10))
    season = SEASONS[month % 12 // 3]
    weather = str(rng.choice(["clear", "overcast", "fog", "rain"], p=[0.5, 0.3, 0.06, 0.14])) if free else "clear"
    light = "sunset" if free and rng.random() < 0.15 else "day"
    if rng.random() < look.night:
        light = "night"
    snow = float(season == "winter" and month != 3 and rng.random() < 0.3) * rng.uniform(0.5, 1.0)
    env = _light(rng, light, season, weather, snow, variety)
    colour = 1 + 0.12 * variety * rng.normal(size=3)
    gain = {"day": 1.0, "sunset": 1.5, "night": 2.6}[light] * (1.25 if weather != "clear" and light == "day" else 1.0)
    lens = Lens(
        exposure=float(gain * np.exp(0.28 * variety * rng.normal())),
        balance=(float(colour[0]), 1.0, float(colour[2])),
        blur_px=float(variety * max(0.0, rng.normal(0.0, 0.35)) + (0.15 if light == "night" else 0.0)),
        noise=float(0.006 + variety * rng.uniform(0, 0.012) + (0.012 if light == "night" else 0.0)),
        vignette=float(rng.uniform(0, 0.35) * variety),
        jpeg_quality=int(rng.integers(70, 95)),
    )
    objects = _traffic(rng, city, camera, variety, light)
    labels: dict[str, str | float] = {
        "light": light,
        "season": season,
        "weather": weather,
        "snow": "yes" if snow > 0 else "no",
        "sun_elevation_deg": round(float(np.degrees(np.arcsin(env[SUN + 2]))), 1),
        "num_vehicles": float(((objects[:, 4] == CAR) & (objects[:, 5] == 0)).sum()),
        "num_people": float((objects[:, 4] == PERSON).sum()),
    }
    return Conditions(year, month, labels, env, lens, _paints(city, year), objects)


def _light(
    rng: np.random.Generator, light: str, season: str, weather: str, snow: float, variety: float
) -> NDArray[np.float64]:
    env = np.zeros(ENV_SIZE)
    peak = {"winter": 26.0, "spring": 50.0, "summer": 64.0, "autumn": 38.0}[season]
    elevation = {"day": rng.uniform(0.45, 1.0) * peak, "sunset": rng.uniform(3, 9), "night": 35.0}[light]
    elevation = variety * elevation + (1 - variety) * (55.0 if light == "day" else elevation)
    around = rng.uniform(0, 2 * np.pi)
    rise = np.radians(elevation)
    env[SUN : SUN + 3] = np.cos(around) * np.cos(rise), np.sin(around) * np.cos(rise), np.sin(rise)
    lights: dict[str, tuple[tuple[float, ...], ...]] = {
        "day": ((2.3, 2.1, 1.8), (0.30, 0.52, 0.95), (0.78, 0.88, 1.0)),
        "sunset": ((1.7, 0.85, 0.4), (0.22, 0.3, 0.52), (0.95, 0.6, 0.38)),
        "night": ((0.012, 0.014, 0.02), (0.006, 0.009, 0.022), (0.035, 0.03, 0.038)),
    }
    sunlit, zenith, horizon = lights[light]
    dim = 1.0
    cloud = rng.uniform(0.0, 0.6)
    haze, sky_haze = 0.0012, 0.1
    if weather != "clear":
        sunlit = tuple(0.06 * v for v in sunlit)
        grey = float(np.mean(zenith) * 0.55 + np.mean(horizon) * 0.45)
        zenith = tuple(0.25 * v + 0.75 * grey for v in zenith)
        horizon = tuple(0.3 * v + 0.7 * grey * 1.08 for v in horizon)
        cloud = rng.uniform(0.85, 1.0)
        dim = rng.uniform(0.6, 1.0)
        if weather == "fog":
            haze, sky_haze = rng.uniform(0.012, 0.035), 0.9
        elif weather == "rain":
            haze, sky_haze = rng.uniform(0.003, 0.009), 0.4
    env[SUN_LIGHT : SUN_LIGHT + 3] = sunlit
    env[ZENITH : ZENITH + 3] = np.array(zenith) * dim
    env[HORIZON : HORIZON + 3] = np.array(horizon) * dim
    env[GRASS : GRASS + 3] = {
        "winter": (0.16, 0.15, 0.08),
        "spring": (0.11, 0.22, 0.05),
        "summer": (0.14, 0.2, 0.05),
        "autumn": (0.2, 0.18, 0.06),
    }[season]
    env[NIGHT] = float(light == "night") + 0.35 * float(light == "sunset")
    env[SNOW] = snow
    env[WET] = (rng.uniform(0.5, 1.0) if weather == "rain" else 0.0) * (1 - snow)
    env[CLOUD] = cloud
    env[CLOUD_LIGHT] = float(np.mean(horizon)) * dim
    env[SEED] = float(rng.integers(1, 1_000_000))
    env[LEAF] = {"winter": 0.04, "spring": 0.75, "summer": 1.0, "autumn": rng.uniform(0.35, 0.85)}[season]
    env[LEAF_COLOUR : LEAF_COLOUR + 3] = {
        "winter": (0.14, 0.13, 0.08),
        "spring": (0.16, 0.27, 0.06),
        "summer": (0.09, 0.19, 0.05),
        "autumn": (rng.uniform(0.28, 0.45), rng.uniform(0.15, 0.25), 0.03),
    }[season]
    env[SKY_HAZE], env[HAZE] = sky_haze, haze
    return env


@lru_cache(maxsize=64)
def _paint_rounds(seed: int, num_buildings: int, year: int) -> NDArray[np.float64]:
    """Red, green, blue, trim and the round of signs of every building in a year.

    A house is repainted about every 25 years, a shop changes hands about every 7.
    """
    rng = np.random.default_rng([seed, 7])
    paint_phase, shop_phase = rng.uniform(0, 25, num_buildings), rng.uniform(0, 7, num_buildings)
    paint_round = np.floor((year + paint_phase) / 25).astype(np.int64)
    sign_round = np.floor((year + shop_phase) / 7).astype(np.int64)
    choice = rng.integers(0, len(_WALLS), (num_buildings, 120))
    index = np.arange(num_buildings)
    wall = _WALLS[choice[index, paint_round]]
    tint = 1 + 0.2 * np.random.default_rng([seed, 8]).normal(size=(num_buildings, 3))
    trim = rng.choice([0.75, 0.62, 0.35, 0.15], num_buildings, p=[0.5, 0.2, 0.15, 0.15])
    return np.column_stack([np.clip(wall * tint, 0.03, 0.9), trim, sign_round + index * 5])


def _paints(city: City, year: int) -> NDArray[np.float64]:
    return _paint_rounds(city.seed, len(city.buildings), year)


def _traffic(rng: np.random.Generator, city: City, camera: Camera, variety: float, light: str) -> NDArray[np.float64]:
    """Return cars, vans and people around the camera, in rows ``x0 x1 y0 y1 kind z0 z1 red green blue front``."""
    rows: list[tuple[float, ...]] = []
    busy = variety * rng.uniform(0.0, 1.0) * (0.6 if light == "night" else 1.0)
    for streets, along_x in ((city.street_y, True), (city.street_x, False)):
        across_at, along_at = (camera.y, camera.x) if along_x else (camera.x, camera.y)
        for centre, half_width, pavement in streets:
            if abs(centre - across_at) > 60:
                continue
            for side in (-1.0, 1.0):
                at = along_at - 55 + rng.uniform(0, 8)
                while at < along_at + 55:  # parked at the kerb
                    at += rng.uniform(5.2, 8)
                    if half_width > 3.4 and rng.random() < 0.2 + 0.55 * busy:
                        _car(rng, rows, camera, at, centre + side * (half_width - 1.05), along_x, side)
                for _ in range(rng.poisson(1.2 * busy)):  # on the road
                    at = along_at + rng.uniform(-50, 50)
                    _car(rng, rows, camera, at, centre + side * half_width * 0.35, along_x, side)
                for _ in range(rng.poisson(2.2 * busy)):
                    at = along_at + rng.uniform(-30, 30)
                    off = centre + side * (half_width + rng.uniform(0.4, max(0.6, pavement - 0.3)))
                    x, y = (at, off) if along_x else (off, at)
                    if np.hypot(x - camera.x, y - camera.y) > 3.5:
                        cloth = rng.uniform(0.03, 0.5, 3) * rng.uniform(0.4, 1)
                        rows.append((x, x, y, y, PERSON, 0.0, rng.uniform(1.5, 1.9), *cloth, 0.0))
    return np.array(rows, dtype=np.float64).reshape(-1, 11)


def _car(
    rng: np.random.Generator,
    rows: list[tuple[float, ...]],
    camera: Camera,
    at: float,
    across: float,
    along_x: bool,
    side: float,
) -> None:
    """Add a car or a van, body and cabin, unless the camera is inside it."""
    van = rng.random() < 0.18
    length, width = (5.0, 1.95) if van else (rng.uniform(3.7, 4.7), 1.75)
    top = 2.1 if van else rng.uniform(1.4, 1.6)
    x, y = (at, across) if along_x else (across, at)
    if np.hypot(x - camera.x, y - camera.y) < 6.0:
        return
    colour = _CARS[rng.choice(len(_CARS), p=_CAR_SHARES)] * rng.uniform(0.8, 1.1)
    # Traffic keeps right: with negative offsets it drives along the axis if the street runs along x.
    front = float((side < 0) == along_x)

    def box(half_length: float, half_width: float, shift: float, kind: int, low: float, high: float) -> None:
        a, b = at + shift - half_length, at + shift + half_length
        c, d = across - half_width, across + half_width
        extent = (a, b, c, d) if along_x else (c, d, a, b)
        rows.append((*extent, kind, low, high, *colour, front))

    if van:
        box(length / 2, width / 2, 0.0, CAR, 0.0, 1.15)
        box(length / 2 - 0.1, width / 2 - 0.03, 0.0, CAR if rng.random() < 0.6 else GLASS, 1.15, top)
    else:
        box(length / 2, width / 2, 0.0, CAR, 0.0, 0.85)
        box(length * 0.27, width / 2 - 0.12, -0.2, GLASS, 0.85, top)
