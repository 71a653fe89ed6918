"""Plan and draw the photos of the embedded city.

Training places are at least 100 m apart and photographed several times over the years, as in GSV-Cities. Each
evaluation set is another city, with a database along the streets at several headings, and queries in between, taken at
other times with a hand-held camera, as in SF-XS. Many queries of ``night`` are taken at night, as in Tokyo 24/7. The
conditions of each photo are columns of the manifest.
"""

from __future__ import annotations

import hashlib
import json
import os
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from vpr.config.atomic_files import atomic_write
from vpr.config.errors import UserError
from vpr.config.progress import progress
from vpr.config.project import resolve_root
from vpr.data.manifest import DATABASE, QUERY, TRAIN, Manifest, make_manifest
from vpr.sources.standard_naming import format_name
from vpr.sources.synthetic import SyntheticParams, sampling
from vpr.sources.synthetic.city import City, build_city
from vpr.sources.synthetic.conditions import Camera, Look, sample_conditions
from vpr.sources.synthetic.render import develop, render

EVAL_SETS = ("val", "test", "night")
PLACE_DISTANCE_M = 100.0
_NAMES = ("Aldora", "Brevik", "Castra", "Dunmar", "Elvira", "Fosse", "Gerona", "Halden", "Istria", "Jarosl")
_ZONES = ((31, "T"), (32, "T"), (33, "T"), (33, "U"), (32, "U"), (30, "T"))


@dataclass(frozen=True)
class Shot:
    """A photo to draw. ``key`` seeds it, so that it does not depend on the process that draws it."""

    city: int
    key: tuple[int, ...]
    role: str
    set: str
    place_id: str
    camera: Camera
    night: float
    variety: float


def draw(params: SyntheticParams) -> Manifest:
    """Draw missing images and list all of them.

    The name of the folder contains a hash of the options and of this package's code, so that cities are never mixed,
    and an interrupted run continues where it stopped.
    """
    sources = b"".join(path.read_bytes() for path in sorted(Path(__file__).parent.glob("[a-z]*.py")))
    content = json.dumps(params.model_dump(), sort_keys=True).encode() + sources
    digest = hashlib.sha256(content).hexdigest()[:10]
    root = f"data:synthetic-{digest}"
    shots = plan(params)
    folder = resolve_root(root)
    folder.mkdir(parents=True, exist_ok=True)
    workers = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if len(shots) < 300:
        workers = 1
    jobs = [(params, folder, shots[k : k + 64]) for k in range(0, len(shots), 64)]
    rows: list[dict[str, Any]] = []
    with progress(len(shots), "drawing the city", "images") as bar:
        if workers == 1:
            for job in jobs:
                rows += _take(job)
                bar.update(len(job[2]))
        else:
            with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
                for job, done in zip(jobs, pool.map(_take, jobs), strict=True):
                    rows += done
                    bar.update(len(job[2]))
    return make_manifest("synthetic", root, pd.DataFrame(rows), {"options": params.model_dump()})


def plan(params: SyntheticParams) -> list[Shot]:
    """List every photo of the dataset."""
    shots: list[Shot] = []
    least, most = params.images_per_place
    for c in range(params.train_cities):
        city = _city(params, c)
        rng = np.random.default_rng([params.seed, 10, c])
        wanted = _places_of(params, c)
        spots = sampling.distant_spots(city, wanted, PLACE_DISTANCE_M, rng)
        if len(spots) < wanted:
            raise UserError(
                f"params.yaml: datasets.synthetic.train_places: city {city.name} has room for {len(spots)} places "
                f"100 m apart, but {wanted} are needed; lower it, raise train_cities, or choose another seed"
            )
        for p, spot in enumerate(spots):
            direction = rng.uniform(0, 2 * np.pi)
            for k in range(int(rng.integers(least, most + 1))):
                one = np.random.default_rng([params.seed, 11, c, p, k])
                camera_of = sampling.car_camera if one.random() < 0.7 else sampling.hand_camera
                camera = camera_of(one, sampling.shift(spot, float(one.uniform(-7, 7))), direction, 0.17)
                shots.append(
                    Shot(c, (11, c, p, k), TRAIN, "", f"{city.name}/{p}", camera, params.night, params.variety)
                )
    for s, name in enumerate(EVAL_SETS):
        index = params.train_cities + s
        city = _city(params, index)
        for p, spot in enumerate(sampling.street_spots(city, params.database_spacing_m)):
            for k, direction in enumerate(sampling.headings(spot, params.database_headings)):
                one = np.random.default_rng([params.seed, 12, s, p, k])
                camera = sampling.car_camera(one, spot, direction, 0.06)
                shots.append(
                    Shot(index, (12, s, p, k), DATABASE, name, "", camera, params.night / 2, params.variety * 0.7)
                )
        spots = sampling.street_spots(city, 1.0)
        night = params.night_queries if name == "night" else params.night
        for q in range(params.num_queries):
            one = np.random.default_rng([params.seed, 13, s, q])
            spot = spots[int(one.integers(len(spots)))]
            facing = sampling.headings(spot, params.database_headings)
            direction = float(one.choice(facing))
            wobble = float(np.radians(params.query_heading_sd_deg))
            camera = sampling.hand_camera(one, spot, direction, wobble)
            shots.append(Shot(index, (13, s, q), QUERY, name, "", camera, night, params.variety))
    return shots


def _places_of(params: SyntheticParams, c: int) -> int:
    return params.train_places // params.train_cities + (c < params.train_places % params.train_cities)


@lru_cache(maxsize=8)
def _city_of(index: int, seed: int, blocks: int) -> City:
    name = _NAMES[index % len(_NAMES)] + (str(index // len(_NAMES)) if index >= len(_NAMES) else "")
    zone = _ZONES[index % len(_ZONES)]
    base = {"T": 4_900_000.0, "U": 5_500_000.0}[zone[1]]
    origin = (400_000.0 + 7_000.0 * (index % 29), base + 9_000.0 * (index % 31))
    return build_city(
        name, int(np.random.SeedSequence([seed, index]).generate_state(1)[0]), (blocks, blocks), zone, origin
    )


def _city(params: SyntheticParams, index: int) -> City:
    if index >= params.train_cities:
        return _city_of(index, params.seed, params.blocks + 2)  # a rim of blocks that closes every view
    # A block of about 90 m rarely has two places 100 m apart, and the border has none.
    return _city_of(index, params.seed, max(3, int(np.ceil(np.sqrt(_places_of(params, index) * 2))) + 5))


def _take(job: tuple[SyntheticParams, Path, list[Shot]]) -> list[dict[str, Any]]:
    """Draw the missing photos of a job, and return the rows of all."""
    params, folder, shots = job
    rows = []
    for shot in shots:
        city = _city(params, shot.city)
        rng = np.random.default_rng([params.seed, 14, *shot.key])
        first, last = params.years
        if shot.role == DATABASE:
            last = max(first, last - 3)  # so that queries include newer photos
        look = Look(shot.variety, shot.night, (first, last))
        conditions = sample_conditions(rng, city, look, shot.camera)
        east, north = city.to_utm(shot.camera.x, shot.camera.y)
        heading = city.compass(shot.camera.direction)
        timestamp = f"{conditions.year}{conditions.month:02d}"
        pano = hashlib.sha256(repr((params.seed, *shot.key)).encode()).hexdigest()[:16]
        note = f"{shot.place_id.partition('/')[2]}_{city.name}" if shot.role == TRAIN else ""
        name = format_name(east, north, city.zone, pano, heading, timestamp, note)
        parent = {
            TRAIN: f"train/{city.name.lower()}",
            DATABASE: f"{shot.set}/database",
            QUERY: f"{shot.set}/queries",
        }[shot.role]
        image = f"{parent}/{name}"
        if not (folder / image).exists():
            light = render(city, shot.camera, conditions, params.width, params.height)
            with atomic_write(folder / image) as part:
                picture = Image.fromarray(develop(light, conditions.lens, rng))
                picture.save(part, "JPEG", quality=conditions.lens.jpeg_quality)
        rows.append(
            {
                "image": image,
                "role": shot.role,
                "set": shot.set,
                "place_id": shot.place_id,
                "utm_east": round(east, 2),
                "utm_north": round(north, 2),
                "utm_zone": f"{city.zone[0]}{city.zone[1]}",
                "heading": round(heading),
                "timestamp": timestamp,
                "city": city.name,
                **conditions.labels,
                "field_of_view_deg": round(float(np.degrees(shot.camera.field_of_view)), 1),
                "camera_height_m": round(shot.camera.height, 2),
                "pitch_deg": round(float(np.degrees(shot.camera.pitch)), 1),
                "roll_deg": round(float(np.degrees(shot.camera.roll)), 1),
                "exposure": round(conditions.lens.exposure, 3),
                "white_balance_red": round(conditions.lens.balance[0], 3),
                "white_balance_blue": round(conditions.lens.balance[2], 3),
                "vignette": round(conditions.lens.vignette, 3),
                "blur_px": round(conditions.lens.blur_px, 2),
                "noise": round(conditions.lens.noise, 4),
                "jpeg_quality": conditions.lens.jpeg_quality,
            }
        )
    return rows
