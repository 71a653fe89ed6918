"""Draw a city in perspective, one ray per sample, with numba.

All walls are vertical. The azimuth of a ray therefore determines which objects it can meet, and its slope determines
the height at which it meets them. For each azimuth, ``_columns`` sorts the boxes, trunks, crowns and people along the
ray by distance. For each sample, ``_picture`` goes through this list with the sample's slope, and a function
``_see_...`` for each kind of object tests whether the ray meets it. Shadows come from a height map around the camera,
swept along the direction of the sun. Colours are linear light until ``render`` applies exposure and a tone curve.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from vpr.sources.synthetic.city import CELL_M, City
from vpr.sources.synthetic.conditions import (
    CAR,
    CLOUD,
    CLOUD_LIGHT,
    GLASS,
    GRASS,
    HAZE,
    HORIZON,
    LEAF,
    LEAF_COLOUR,
    NIGHT,
    PERSON,
    SEED,
    SKY_HAZE,
    SNOW,
    SUN,
    SUN_LIGHT,
    WET,
    ZENITH,
    Camera,
    Conditions,
    Lens,
)  # fmt: skip

FAR_M = 150.0
MAX_HITS = 14
SUPERSAMPLE = 2
SHADOW_M = 160  # side of the square height map around the camera, one cell per metre
BUILDING, POLE, CROWN, LAMP = 0, 3, 4, 6  # in addition to CAR, GLASS and PERSON
# Columns of boxes on the ground, of buildings, of trees, and of cars and people.
X0, X1, Y0, Y1 = 0, 1, 2, 3
TOP, ROOF, FLOOR, BAY, STYLE, SHOP = 4, 5, 6, 7, 8, 9
CROWN_Z, RADIUS = 2, 3
KIND, LOW, HIGH, RED, FRONT = 4, 5, 6, 7, 10
# ``view`` describes the surface that a ray meets: three numbers of reflectance, three of emission, and these.
GLOSS, AT, UP, LAMBERT, FILL, VIEW_SIZE = 6, 7, 8, 9, 10, 11
_fast = {"fastmath": True, "cache": True, "nogil": True}
# Functions called with many constants declare their types; otherwise numba compiles each case, for 7 seconds more.
_LISTS = "int64[::1], float64[:, :, ::1], int64[:, :, ::1]"  # count, hits, kind_of
_VIEW = f"float64, float64, float64, float64, float64, float64[:, ::1], {_LISTS}"  # cx, cy, az0, step, axis, dirs


@njit("float64(int64, int64, int64)", **_fast)
def _hash(a: int, b: int, c: int) -> float:
    """Hash three integers to a number in [0, 1)."""
    x = (a * 73856093) ^ (b * 19349663) ^ (c * 83492791)
    x = (x ^ (x >> 15)) * 2246822519
    x = (x ^ (x >> 13)) * 3266489917
    x = x ^ (x >> 16)
    return (x & 0xFFFFFF) / 16777216.0


@njit("float64(float64, float64, int64)", **_fast)
def _noise(x: float, y: float, seed: int) -> float:
    """Return smooth noise in [0, 1), with one cell per unit."""
    i, j = math.floor(x), math.floor(y)
    u, v = x - i, y - j
    u, v = u * u * (3 - 2 * u), v * v * (3 - 2 * v)
    low = _hash(i, j, seed) * (1 - u) + _hash(i + 1, j, seed) * u
    high = _hash(i, j + 1, seed) * (1 - u) + _hash(i + 1, j + 1, seed) * u
    return low * (1 - v) + high * v


@njit("float64(float64, float64, float64, int64)", **_fast)
def _noise3(x: float, y: float, z: float, seed: int) -> float:
    """Return smooth three-dimensional noise in [0, 1)."""
    k = math.floor(z)
    w = z - k
    return _noise(x, y, seed + 131 * int(k)) * (1 - w) + _noise(x, y, seed + 131 * (int(k) + 1)) * w


@njit(f"void(int64, {_LISTS}, float64, float64, float64, int64, int64, int64)", **_fast)
def _insert(column, count, hits, kind_of, t, t_end, u, kind, item, face):
    """Insert a hit into its column's list, nearest first; a full list loses the farthest one."""
    n = count[column]
    if n == MAX_HITS:
        if hits[column, n - 1, 0] <= t:
            return
        n -= 1
    k = n
    while k > 0 and hits[column, k - 1, 0] > t:
        for m in range(3):
            hits[column, k, m] = hits[column, k - 1, m]
            kind_of[column, k, m] = kind_of[column, k - 1, m]
        k -= 1
    hits[column, k, 0], hits[column, k, 1], hits[column, k, 2] = t, t_end, u
    kind_of[column, k, 0], kind_of[column, k, 1], kind_of[column, k, 2] = kind, item, face
    count[column] = n + 1


@njit(**_fast)
def _relative(angle: float) -> float:
    """Wrap an angle to [-pi, pi)."""
    return (angle + math.pi) % (2 * math.pi) - math.pi


@njit(f"void(float64, float64, float64, float64, int64, int64, {_VIEW})", **_fast)
def _add_box(x0, x1, y0, y1, kind, item, cx, cy, az0, step, axis, dirs, count, hits, kind_of):
    """Add a box to every column whose ray meets it."""
    low, high = 10.0, -10.0
    for a in range(2):
        for b in range(2):
            angle = _relative(math.atan2((y1 if b else y0) - cy, (x1 if a else x0) - cx) - axis)
            low, high = min(low, angle), max(high, angle)
    first = max(0, int((low - az0) / step) - 1)
    last = min(len(dirs) - 1, int((high - az0) / step) + 1)
    for column in range(first, last + 1):
        dx, dy = dirs[column, 0], dirs[column, 1]
        tx0, tx1 = (x0 - cx) / dx, (x1 - cx) / dx
        ty0, ty1 = (y0 - cy) / dy, (y1 - cy) / dy
        near_x, near_y = min(tx0, tx1), min(ty0, ty1)
        t = max(near_x, near_y)
        t_end = min(max(tx0, tx1), max(ty0, ty1))
        if t_end <= t or t < 0.3 or t > FAR_M:
            continue
        if near_x > near_y:
            _insert(column, count, hits, kind_of, t, t_end, cy + t * dy, kind, item, 0 if dx > 0 else 1)
        else:
            _insert(column, count, hits, kind_of, t, t_end, cx + t * dx, kind, item, 2 if dy > 0 else 3)


@njit(f"void(float64, float64, float64, int64, int64, {_VIEW})", **_fast)
def _add_disc(x, y, radius, kind, item, cx, cy, az0, step, axis, dirs, count, hits, kind_of):
    """Add an upright cylinder (pole, crown, person) to every column whose ray meets it."""
    distance = math.hypot(x - cx, y - cy)
    if distance <= radius + 0.3 or distance > FAR_M:
        return
    middle = _relative(math.atan2(y - cy, x - cx) - axis)
    half = math.asin(radius / distance)
    first = max(0, int((middle - half - az0) / step))
    last = min(len(dirs) - 1, int((middle + half - az0) / step) + 1)
    for column in range(first, last + 1):
        dx, dy = dirs[column, 0], dirs[column, 1]
        along = (x - cx) * dx + (y - cy) * dy
        across = (x - cx) * dy - (y - cy) * dx
        inside = radius * radius - across * across
        if inside <= 0 or along <= 0:
            continue
        chord = math.sqrt(inside)
        _insert(column, count, hits, kind_of, along - chord, along + chord, across, kind, item, 0)


@njit(**_fast)
def _columns(
    camera,
    az0,
    step,
    dirs,
    buildings,
    cell_start,
    cell_items,
    trees,
    tree_start,
    tree_items,
    rows,
    cols,
    objects,
    lamps,
):
    """Find what the ray of each azimuth meets, nearest first."""
    num = len(dirs)
    count = np.zeros(num, np.int64)
    hits = np.empty((num, MAX_HITS, 3), np.float64)
    kind_of = np.empty((num, MAX_HITS, 3), np.int64)
    cx, cy, axis = camera[0], camera[1], camera[3]
    ci, cj, reach = int(cx // CELL_M), int(cy // CELL_M), int(FAR_M // CELL_M) + 1
    for i in range(max(0, ci - reach), min(cols, ci + reach + 1)):
        for j in range(max(0, cj - reach), min(rows, cj + reach + 1)):
            cell = i * rows + j
            for k in range(cell_start[cell], cell_start[cell + 1]):
                b = cell_items[k]
                row = buildings[b]
                _add_box(
                    row[X0], row[X1], row[Y0], row[Y1], BUILDING, b, cx, cy, az0, step, axis, dirs, count, hits, kind_of
                )
            for k in range(tree_start[cell], tree_start[cell + 1]):
                b = tree_items[k]
                _add_disc(
                    trees[b, 0], trees[b, 1], 0.16, POLE, -1 - b, cx, cy, az0, step, axis, dirs, count, hits, kind_of
                )
                _add_disc(
                    trees[b, 0], trees[b, 1], trees[b, 3], CROWN, b, cx, cy, az0, step, axis, dirs, count, hits, kind_of
                )
    for b in range(len(lamps)):
        _add_disc(lamps[b, 0], lamps[b, 1], 0.07, POLE, b, cx, cy, az0, step, axis, dirs, count, hits, kind_of)
        _add_disc(lamps[b, 0], lamps[b, 1], 0.22, LAMP, b, cx, cy, az0, step, axis, dirs, count, hits, kind_of)
    for b in range(len(objects)):
        row = objects[b]
        if row[KIND] == PERSON:
            _add_disc(row[X0], row[Y0], 0.27, PERSON, b, cx, cy, az0, step, axis, dirs, count, hits, kind_of)
        else:
            _add_box(
                row[X0],
                row[X1],
                row[Y0],
                row[Y1],
                int(row[KIND]),
                b,
                cx,
                cy,
                az0,
                step,
                axis,
                dirs,
                count,
                hits,
                kind_of,
            )
    return count, hits, kind_of


@njit(**_fast)
def _shadow_map(cx, cy, sun, buildings, cell_start, cell_items, trees, tree_start, tree_items, rows, cols, leaves):
    """Compute the height below which points are in shadow, on a grid of one metre around the camera."""
    n = SHADOW_M
    x_low, y_low = math.floor(cx) - n // 2, math.floor(cy) - n // 2
    height = np.zeros((n, n), np.float32)
    ci, cj, reach = int(cx // CELL_M), int(cy // CELL_M), n // 2 // int(CELL_M) + 2
    for i in range(max(0, ci - reach), min(cols, ci + reach + 1)):
        for j in range(max(0, cj - reach), min(rows, cj + reach + 1)):
            cell = i * rows + j
            for k in range(cell_start[cell], cell_start[cell + 1]):
                row = buildings[cell_items[k]]
                for a in range(max(0, int(row[X0] - x_low)), min(n, int(row[X1] - x_low) + 1)):
                    for b in range(max(0, int(row[Y0] - y_low)), min(n, int(row[Y1] - y_low) + 1)):
                        height[a, b] = max(height[a, b], row[TOP])
            if leaves > 0.3:
                for k in range(tree_start[cell], tree_start[cell + 1]):
                    row = trees[tree_items[k]]
                    r = row[RADIUS] * 0.8
                    for a in range(max(0, int(row[0] - r - x_low)), min(n, int(row[0] + r - x_low) + 1)):
                        for b in range(max(0, int(row[1] - r - y_low)), min(n, int(row[1] + r - y_low) + 1)):
                            height[a, b] = max(height[a, b], row[CROWN_Z] + r * 0.6)
    flat = math.hypot(sun[0], sun[1]) + 1e-9
    step_x, step_y, drop = sun[0] / flat, sun[1] / flat, sun[2] / flat
    # Start at the sun's side: each cell uses the result of the cell one metre closer to the sun.
    for p in range(n):
        for q in range(n):
            a = n - 1 - p if step_x > 0 else p
            b = n - 1 - q if step_y > 0 else q
            if abs(step_x) >= abs(step_y):
                u, v = a + (1 if step_x > 0 else -1), b + step_y / abs(step_x)
                length = 1.0 / abs(step_x)
            else:
                u, v = a + step_x / abs(step_y), b + (1 if step_y > 0 else -1)
                length = 1.0 / abs(step_y)
            i, j = math.floor(u + 0.5), math.floor(v + 0.5)
            if 0 <= i < n and 0 <= j < n:
                height[a, b] = max(height[a, b], height[i, j] - length * drop)
    return height


@njit(**_fast)
def _wall(u, z, row, seed, face, view, env, paint, distance):
    """Fill ``view`` with the colours of a façade, ``u`` metres along and ``z`` metres up."""
    height, floor, bay, style, shop = row[TOP], row[FLOOR], row[BAY], row[STYLE], row[SHOP]
    red, green, blue = paint[0], paint[1], paint[2]
    trim = paint[3]
    view[3] = view[4] = view[5] = 0.0
    rough = 0.9 + 0.2 * _noise(u * 0.8, z * 0.8, seed) - 0.08 * _noise(u * 3.1, z * 0.4, seed + 7)
    texture = _hash(seed, 11, 0)
    if distance < 45:
        if texture < 0.35:  # bricks
            course = int(z / 0.16)
            shift = 0.5 * (course & 1)
            rough *= 0.9 + 0.2 * _hash(math.floor(u / 0.42 + shift), course, seed)
        elif texture < 0.5 and (z / 0.55) % 1.0 < 0.08:  # courses of stone
            rough *= 0.78
    if style == 0.0:  # a yard wall
        if z > height - 0.12:
            rough *= 1.15
        view[0], view[1], view[2] = red * rough, green * rough, blue * rough
        return
    if z > height - 0.45:  # cornice
        tone = 0.85 if z > height - 0.12 else 1.08
        view[0] = view[1] = view[2] = trim * tone
        view[2] *= 0.94
        return
    if z < 0.45 and shop < 0.5:  # plinth
        view[0] = view[1] = view[2] = 0.22 * rough
        return
    storey = int(z / floor)
    up = z / floor - storey
    width = row[X1] - row[X0] if face >= 2 else row[Y1] - row[Y0]
    along = u - (row[X0] if face >= 2 else row[Y0])
    num_bays = max(1, int(width / bay))
    bay = width / num_bays
    column = min(num_bays - 1, max(0, int(along / bay)))
    across = along / bay - column
    metal = 0.5 + 0.5 * _hash(seed, 3, 1)
    glass = False
    lit_draw = _hash(seed + storey * 131, column * 17 + face, int(env[SEED]))
    if storey == 0 and shop > 0.5:
        sign_low, sign_high = 0.74, 0.93
        if up > sign_high:
            pass
        elif up > sign_low:  # the sign, one for two or three bays
            group = column // (2 + int(_hash(seed, 5, 5) * 2))
            sign = int(paint[4]) * 31 + group
            base = _hash(sign, seed, 1)
            r, g, b = _hash(sign, seed, 2), _hash(sign, seed, 3), _hash(sign, seed, 4)
            letter = int(along / 0.28)
            on = (
                0.78 < up < 0.89
                and _hash(letter, sign, seed) > 0.4
                and (up * 53 + along * 9) % 1.0 > 0.35 * _hash(letter, sign, 9)
            )
            if on:
                r, g, b = 1.0 - r * 0.6, 1.0 - g * 0.7, 1.0 - b * 0.7
            else:
                r, g, b = r * 0.7 * base + 0.03, g * 0.6 * base + 0.03, b * 0.7 * base + 0.03
            view[0], view[1], view[2] = r, g, b
            glow = env[NIGHT] * (2.2 if _hash(sign, seed, 8) > 0.35 else 0.0)
            view[3], view[4], view[5] = r * glow, g * glow, b * glow
            return
        elif up > 0.66 and _hash(seed, 6, 6) > 0.5:  # awning
            stripe = int(along / 0.35) & 1
            hue = _hash(int(paint[4]), seed, 12)
            view[0] = 0.75 if stripe else 0.2 + 0.6 * hue
            view[1] = 0.72 if stripe else 0.15
            view[2] = 0.66 if stripe else 0.7 - 0.6 * hue
            return
        elif up > 0.12 and 0.06 < across < 0.94:
            glass = True
            lit_draw *= 0.8
        elif across <= 0.06 or across >= 0.94:
            view[0] = view[1] = view[2] = 0.3 * metal
            return
    elif storey == 0 and column == int(_hash(seed, 4, face) * num_bays):  # noqa: SIM102, the door
        if 0.22 < across < 0.78 and up < 0.72:
            if up > 0.6:
                glass = True
            else:
                panel = 0.75 if (across * 5) % 1.0 < 0.15 else 1.0
                view[0] = (0.05 + 0.4 * _hash(seed, 7, 1)) * panel
                view[1] = (0.05 + 0.25 * _hash(seed, 7, 2)) * panel
                view[2] = (0.04 + 0.3 * _hash(seed, 7, 3)) * panel
                return
    if not glass:
        kind = _hash(seed, 8, 0)
        half = 0.2 + 0.2 * _hash(seed, 8, 1)
        low, high = 0.24 + 0.1 * _hash(seed, 8, 2), 0.74 + 0.12 * _hash(seed, 8, 3)
        if style == 2.0:  # bands of glass
            half, low, high = 0.46, 0.2, 0.9
        off = abs(across - 0.5)
        if kind < 0.2 and up > high - 0.14 and off < half:  # arched heads
            rise = (up - (high - 0.14)) / 0.14
            if off > half * math.sqrt(max(0.0, 1 - rise * rise)):
                off = 1.0
        if off < half and low < up < high and storey * floor + low * floor < height - 1.0:
            frame = 0.1 * half / 0.3
            if kind > 0.75 and off > half * 0.62 and style != 2.0:  # shutters
                slat = 0.7 + 0.3 * ((z * 9) % 1.0)
                view[0] = (0.08 + 0.3 * _hash(seed, 9, 1)) * slat
                view[1] = (0.12 + 0.3 * _hash(seed, 9, 2)) * slat
                view[2] = (0.1 + 0.3 * _hash(seed, 9, 3)) * slat
                return
            bar = abs(off) < 0.025 or abs(up - (low + high) / 2) < 0.012
            if off > half - frame * 0.35 or up > high - 0.03 or up < low + 0.03 or (bar and kind < 0.6):
                view[0] = view[1] = view[2] = trim
                return
            glass = True
        elif low - 0.05 < up < low and off < half + 0.05:  # sill
            view[0] = view[1] = view[2] = trim * 0.9
            return
        elif up < 0.1 and storey > 0 and kind < 0.55 and kind > 0.3:  # string course
            view[0] = view[1] = view[2] = trim * 0.95
            return
        elif storey > 0 and up < 0.3 and _hash(seed + storey, column, 77) > 0.86 and style != 2.0:  # balcony rail
            bars = 0.12 if (along / 0.16) % 1.0 < 0.4 or up > 0.27 or up < 0.05 else 0.5
            view[0], view[1], view[2] = red * bars, green * bars, blue * bars
            return
    if glass:
        if env[NIGHT] > 0.05 and lit_draw < 0.42:  # a lit room
            warm = 0.5 + 0.5 * _hash(seed + storey, column, 21)
            fall = 0.7 + 0.5 * _noise(along * 1.5, z * 1.5, seed + 3)
            power = 1.5 * env[NIGHT] * fall * (1.0 if storey > 0 else 1.7)
            view[3], view[4], view[5] = power * 1.0, power * (0.62 + 0.25 * warm), power * (0.25 + 0.5 * warm)
            view[0] = view[1] = view[2] = 0.06
            return
        curtain = _hash(seed + storey * 7, column, 31)
        shade = 0.05 + 0.22 * (1.0 if curtain > 0.7 and up > 0.5 else 0.25 * _noise(along, z * 2, seed + 5))
        mirror = 0.12 + 0.16 * _noise(along * 0.35 + seed % 97, z * 0.35, int(env[SEED]) + 3)
        view[0], view[1], view[2] = shade, shade, shade * 1.08
        view[3], view[4], view[5] = mirror * env[ZENITH], mirror * env[ZENITH + 1], mirror * env[ZENITH + 2]
        return
    view[0], view[1], view[2] = red * rough, green * rough, blue * rough


@njit(**_fast)
def _ground(x, y, distance, street_x, street_y, env, view):
    """Fill ``view`` with the colours of the ground: carriageway, markings, kerb, pavement, yards and parks."""
    near_x, near_y = 1e9, 1e9
    half_x = half_y = walk_x = walk_y = 0.0
    for k in range(len(street_x)):
        d = abs(x - street_x[k, 0])
        if d < near_x:
            near_x, half_x, walk_x = d, street_x[k, 1], street_x[k, 2]
    for k in range(len(street_y)):
        d = abs(y - street_y[k, 0])
        if d < near_y:
            near_y, half_y, walk_y = d, street_y[k, 1], street_y[k, 2]
    road_x, road_y = near_x < half_x, near_y < half_y
    grain = 0.85 + 0.3 * _hash(int(x * 6), int(y * 6), 1) if distance < 25 else 1.0
    patch = 0.85 + 0.3 * _noise(x * 0.25, y * 0.25, 2)
    snow = env[SNOW]
    snowy = 0.0
    if road_x or road_y:
        tone = 0.105 * grain * patch
        red, green, blue = tone, tone, tone * 1.04
        if not (road_x and road_y):
            off, half, along, edge = (
                (near_x, half_x, y, near_y - half_y) if road_x else (near_y, half_y, x, near_x - half_x)
            )
            white = False
            if half > 3.5:
                if half > 6.5:
                    white = off < 0.08 or (abs(off - half / 2) < 0.07 and along % 6.0 < 2.5)
                else:
                    white = off < 0.07 and along % 5.0 < 2.2
                white = white or (1.2 < edge < 3.8 and (off / 0.9) % 1.0 < 0.5 and half - off > 0.4)
                white = white or 4.3 < edge < 4.6
                white = white or abs(off - (half - 2.1)) < 0.04
            if white and _noise(x * 2, y * 2, 4) > 0.25:
                red = green = blue = 0.5 * grain
            snowy = snow * (0.12 + 0.75 * min(1.0, abs(off - half * 0.45) / half * 2) * _noise(x * 0.6, y * 0.6, 5))
        else:
            snowy = snow * 0.25
        gloss = env[WET]
    else:
        walk = near_x < half_x + walk_x or near_y < half_y + walk_y
        if walk:
            edge = min(near_x - half_x if near_x > half_x else 1e9, near_y - half_y if near_y > half_y else 1e9)
            tone = 0.3 * patch * (0.93 + 0.1 * grain)
            if edge < 0.18:
                tone = 0.42
            elif distance < 30 and ((x % 0.9) < 0.05 or (y % 0.9) < 0.05):
                tone *= 0.75
            red, green, blue = tone, tone * 0.97, tone * 0.92
            snowy = snow * 0.75
        else:
            lush = 0.6 + 0.8 * _noise(x * 1.3, y * 1.3, 6)
            red, green, blue = env[GRASS] * lush, env[GRASS + 1] * lush, env[GRASS + 2] * lush
            snowy = snow
        gloss = env[WET] * 0.4
    cover = snowy * (0.8 + 0.4 * _noise(x * 0.7, y * 0.7, 9))
    cover = min(1.0, max(0.0, cover))
    view[0] = red * (1 - cover) + 0.82 * cover
    view[1] = green * (1 - cover) + 0.84 * cover
    view[2] = blue * (1 - cover) + 0.88 * cover
    view[0] *= 1 - 0.45 * env[WET]
    view[1] *= 1 - 0.45 * env[WET]
    view[2] *= 1 - 0.45 * env[WET]
    view[6] = gloss * (1 - cover)


@njit(**_fast)
def _sky(az, slope, env, view):
    """Compute the light of the sky in a direction, with the sun's glow and clouds."""
    rise = slope / math.sqrt(1 + slope * slope)
    mix = min(1.0, max(0.0, rise) ** 0.5)
    for c in range(3):
        view[c] = env[ZENITH + c] * mix + env[HORIZON + c] * (1 - mix)
    cover = env[CLOUD]
    if rise > 0.015 and cover > 0.0:
        px, py = math.cos(az) / (slope + 0.12), math.sin(az) / (slope + 0.12)
        seed = int(env[SEED])
        cloud = (
            0.55 * _noise(px * 1.1 + 40, py * 1.1, seed)
            + 0.3 * _noise(px * 2.6, py * 2.6 + 9, seed + 1)
            + 0.15 * _noise(px * 6, py * 6, seed + 2)
        )
        amount = min(1.0, max(0.0, (cloud - (0.72 - 0.5 * cover)) * 4))
        bright = env[CLOUD_LIGHT] * (1.25 - 0.5 * cloud)
        tint = min(1.0, rise * 6)
        for c in range(3):
            view[c] = (
                view[c] * (1 - amount * tint)
                + bright * (0.55 + 0.45 * env[HORIZON + c] / (env[CLOUD_LIGHT] + 1e-6)) * amount * tint
            )
    norm = 1 / math.sqrt(1 + slope * slope)
    facing = (math.cos(az) * env[SUN] + math.sin(az) * env[SUN + 1]) * norm + rise * env[SUN + 2]
    if facing > 0 and env[SUN_LIGHT] > 0:
        glow = (facing**24 * 0.35 + (8.0 if facing > 0.9994 else 0.0)) * (1 - 0.85 * cover)
        for c in range(3):
            view[c] += env[SUN_LIGHT + c] * glow


@njit(**_fast)
def _facing(face, sun_x, sun_y):
    """Return the cosine between a wall's normal and the sun; faces are west, east, south and north."""
    return -sun_x if face == 0 else sun_x if face == 1 else -sun_y if face == 2 else sun_y


@njit(**_fast)
def _see_building(row, seed, paint, t, t_end, u, face, z, cz, slope, env, view):
    """Test whether a ray meets a wall, or the pitched roof above it."""
    sun_x, sun_y, sun_z = env[SUN], env[SUN + 1], env[SUN + 2]
    top = row[TOP]
    if z <= top:
        if z < 0:
            return False
        _wall(u, z, row, seed, face, view, env, paint, t)
        view[LAMBERT] = _facing(face, sun_x, sun_y)
        view[FILL] = 0.62 + 0.38 * min(1.0, z / 7)
        view[AT], view[UP] = t, z
        return True
    if row[ROOF] > 0 and row[STYLE] > 0:
        run = t_end - t
        rise = row[ROOF]
        gap = rise - slope
        s = (z - top) / gap if gap > 1e-3 else 1e9
        if 0 <= s < run * 0.5 and s * rise < 3.8:
            tone = 0.8 + 0.3 * (((z + s * slope) * 5) % 1.0)
            roof = _hash(seed, 13, 0)
            view[0] = (0.14 + 0.16 * roof) * tone
            view[1] = (0.11 + 0.06 * roof) * tone
            view[2] = (0.12 - 0.02 * roof) * tone
            white = env[SNOW] * 0.9
            for c in range(3):
                view[c] = view[c] * (1 - white) + 0.85 * white
            t += s
            view[AT], view[UP] = t, cz + t * slope
            lean = _facing(face, sun_x, sun_y)
            view[LAMBERT] = (lean * rise + sun_z) / math.sqrt(1 + rise * rise)
            view[FILL] = 1.0
            return True
    return False


@njit(**_fast)
def _see_car(row, kind, t, t_end, u, face, z, cz, slope, env, view):
    """Test whether a ray meets the body or the cabin of a car or van."""
    bottom, top = row[LOW], row[HIGH]
    on_top = z > top and cz + t_end * slope < top
    if not (bottom <= z <= top or on_top):
        return False
    night, snow = env[NIGHT], env[SNOW]
    if on_top:
        t = (top - cz) / slope
        z = top
        view[LAMBERT] = env[SUN + 2]
    else:
        view[LAMBERT] = _facing(face, env[SUN], env[SUN + 1])
    red, green, blue = row[RED], row[RED + 1], row[RED + 2]
    high = (z - bottom) / (top - bottom)
    if kind == GLASS and not on_top and high < 0.85:
        view[0], view[1], view[2] = 0.03, 0.035, 0.04
        for c in range(3):
            view[3 + c] = 0.25 * env[ZENITH + c]
    else:
        low, far = (row[Y0], row[Y1]) if face < 2 else (row[X0], row[X1])
        end = min(u - low, far - u)
        wheel = (end - 0.8) ** 2 + (z - 0.31) ** 2 if far - low > 3 else 1.0
        if kind == CAR and not on_top and wheel < 0.1:
            red = green = blue = 0.3 if wheel < 0.028 else 0.015
        elif kind == CAR and not on_top and z < 0.2:
            red = green = blue = 0.012  # the shade under the car
        elif kind == CAR and not on_top and far - low < 3 and 0.55 < z < 0.75 and end < 0.35:
            front = row[FRONT]
            lamp = 0.5 + 0.5 * front
            red, green, blue = 0.9, 0.15 + 0.7 * front, 0.1 + 0.7 * front
            view[3] = 3 * night
            view[4], view[5] = 3 * night * front * lamp, 2.6 * night * front * lamp
        white = snow * 0.7 if on_top else 0.0
        view[0] = red * (1 - white) + 0.85 * white
        view[1] = green * (1 - white) + 0.86 * white
        view[2] = blue * (1 - white) + 0.88 * white
    view[FILL] = 0.75
    view[AT], view[UP] = t, z
    return True


@njit(**_fast)
def _see_pole(reach, is_trunk, t, z, dx, dy, env, view):
    """Test whether a ray meets a trunk, or the pole of a lamp."""
    if not 0 <= z <= reach:
        return False
    bark = 0.13 if is_trunk else 0.09
    view[0], view[1], view[2] = bark, bark * 0.85, bark * (0.68 if is_trunk else 0.95)
    view[LAMBERT] = 0.5 * max(0.0, -(dx * env[SUN] + dy * env[SUN + 1]))
    view[FILL] = 0.8
    view[AT], view[UP] = t, z
    return True


@njit(**_fast)
def _see_lamp(t, z, env, view):
    """Test whether a ray meets the light of a street lamp."""
    if not 5.0 <= z <= 5.5:
        return False
    night = env[NIGHT]
    view[0] = view[1] = view[2] = 0.2
    view[3], view[4], view[5] = 9 * night, 7 * night, 4 * night
    view[AT], view[UP] = t, z
    return True


@njit(**_fast)
def _see_crown(row, item, t, t_end, u, t_ground, cx, cy, cz, dx, dy, slope, env, view):
    """Test whether a ray meets leaves or, in winter, twigs in a crown, which is a sparse ellipsoid."""
    radius, middle = row[RADIUS], row[CROWN_Z]
    stretch = 1.15
    along = (t + t_end) / 2
    dz = (cz + along * slope - middle) / stretch
    ss = slope / stretch
    qa = 1 + ss * ss
    qb = dz * ss
    qc = u * u + dz * dz - radius * radius
    root = qb * qb - qa * qc
    if root <= 0:
        return False
    s = (-qb - math.sqrt(root)) / qa
    t = along + s
    if not 0.3 < t < t_ground:
        return False
    z = cz + t * slope
    hx, hy = cx + t * dx, cy + t * dy
    leaf = env[LEAF]
    edge = math.sqrt(root / qa) / radius
    ball = _noise3(hx * 1.9, hy * 1.9, z * 1.9, item)
    fine = _noise3(hx * 6, hy * 6, z * 6, item + 1)
    dense = leaf * (0.3 + 0.7 * min(1.0, edge * 1.5)) * (0.45 + 0.7 * ball)
    if fine < dense:
        tone = (0.25 + 0.65 * ball + 0.5 * fine) * (0.65 + 0.35 * min(1.0, (z - middle) / radius + 0.5))
        vary = 0.8 + 0.4 * _hash(item, 5, 5)
        view[0] = env[LEAF_COLOUR] * tone * vary
        view[1] = env[LEAF_COLOUR + 1] * tone
        view[2] = env[LEAF_COLOUR + 2] * tone
        view[LAMBERT] = 0.55 + 0.45 * min(1.0, max(-0.8, (z - middle) / radius))
        view[FILL] = 0.55 + 0.45 * ball
        view[AT], view[UP] = t, z
        return True
    if leaf < 0.5:
        fan = math.atan2(z - middle + radius * 1.1, u + 1e-6)
        reach = _noise(fan * 9, (z - middle) * 0.9 / radius, item + 5)
        if abs(reach - 0.5) < 0.035 + 0.02 * edge:
            white = 0.5 * env[SNOW]
            view[0] = 0.1 * (1 - white) + 0.8 * white
            view[1] = 0.085 * (1 - white) + 0.8 * white
            view[2] = 0.07 * (1 - white) + 0.82 * white
            view[LAMBERT] = 0.4
            view[FILL] = 0.8
            view[AT], view[UP] = t, z
            return True
    return False


@njit(**_fast)
def _see_person(row, t, u, z, view):
    """Test whether a ray meets a person's head, clothes or legs."""
    tall = row[HIGH]
    if not 0 <= z <= tall:
        return False
    part = z / tall
    away = abs(u)
    body = (
        (part > 0.87 and away < 0.11) or (0.48 < part <= 0.85 and away < 0.24) or (part <= 0.5 and 0.02 < away < 0.17)
    )
    if not body:
        return False
    if part > 0.87:
        view[0], view[1], view[2] = 0.45, 0.3, 0.22
        if part > 0.95:
            view[0] = view[1] = view[2] = 0.05
    elif part > 0.48:
        view[0], view[1], view[2] = row[RED], row[RED + 1], row[RED + 2]
    else:
        view[0], view[1], view[2] = 0.06, 0.07, 0.1
    view[LAMBERT] = 0.5
    view[FILL] = 0.8
    view[AT], view[UP] = t, z
    return True


@njit(**_fast)
def _see_ground(hx, hy, t, street_x, street_y, env, view):
    """Fill ``view`` for the ground, with puddles that reflect the sky."""
    night = env[NIGHT]
    _ground(hx, hy, t, street_x, street_y, env, view)
    gloss = view[GLOSS]
    if gloss > 0:
        ripple = 0.6 + 0.8 * _noise(hx * 1.5, hy * 1.5, 8)
        for c in range(3):
            view[3 + c] = gloss * ripple * (0.5 * env[HORIZON + c] + night * (0.10, 0.07, 0.03)[c])
    view[LAMBERT] = env[SUN + 2]
    view[FILL] = 1.0
    view[AT], view[UP] = t, 0.0


@njit(**_fast)
def _light(out, px, py, cx, cy, dx, dy, x_low, y_low, shadow, env, view):
    """Light the surface that a ray meets by sun, sky and lamps, add haze, and write the sample."""
    night = env[NIGHT]
    t, z, lambert, fill = view[AT], view[UP], view[LAMBERT], view[FILL]
    hx, hy, hz = cx + (t - 0.4) * dx, cy + (t - 0.4) * dy, z
    direct = max(0.0, lambert)
    if direct > 0 and env[SUN_LIGHT] > 0:
        a, b = int(hx - x_low), int(hy - y_low)
        if 0 <= a < SHADOW_M and 0 <= b < SHADOW_M and shadow[a, b] > hz + 0.3:
            direct = 0.0
    pool = 0.0
    if night > 0:
        wave = 0.5 + 0.5 * math.cos((hx + hy) * 0.24)
        pool = night * (0.15 + 0.55 * wave) * math.exp(-hz * hz / 45)
    haze = math.exp(-t * env[HAZE])
    for c in range(3):
        sky_fill = 0.5 * env[ZENITH + c] + 0.5 * env[HORIZON + c]
        lamp = (1.0, 0.72, 0.4)[c] * pool
        light = direct * env[SUN_LIGHT + c] + fill * sky_fill * 0.85 + lamp
        out[py, px, c] = (view[c] * light + view[3 + c]) * haze + env[HORIZON + c] * (1 - haze)


@njit(**_fast)
def _picture(out, camera, az0, step, met, scene, street_x, street_y, shadow, env):
    """Fill ``out`` (height, width, 3) with linear light.

    ``met`` is what ``_columns`` returns, ``scene`` holds buildings, their ids and paints, trees and objects.
    """
    count, hits, kind_of = met
    buildings, ids, paints, trees, objects = scene
    height, width = out.shape[0], out.shape[1]
    cx, cy, cz, axis = camera[0], camera[1], camera[2], camera[3]
    pitch, roll, focal = camera[4], camera[5], camera[6]
    sin_pitch, cos_pitch = math.sin(pitch), math.cos(pitch)
    sin_roll, cos_roll = math.sin(roll), math.cos(roll)
    view = np.zeros(VIEW_SIZE, np.float64)
    x_low, y_low = math.floor(cx) - SHADOW_M // 2, math.floor(cy) - SHADOW_M // 2
    for py in range(height):
        for px in range(width):
            right = (px + 0.5 - width / 2) / focal
            up = (height / 2 - py - 0.5) / focal
            side = right * cos_roll - up * sin_roll
            lift = right * sin_roll + up * cos_roll
            ahead = cos_pitch - lift * sin_pitch
            lift = sin_pitch + lift * cos_pitch
            flat = math.sqrt(ahead * ahead + side * side)
            slope = lift / flat
            relative = math.atan2(-side, ahead)
            column = int((relative - az0) / step)
            column = min(len(count) - 1, max(0, column))
            az = axis + relative
            dx, dy = math.cos(az), math.sin(az)
            t_ground = -cz / slope if slope < -1e-6 else 1e9
            found = False
            view[3] = view[4] = view[5] = view[GLOSS] = 0.0
            view[LAMBERT], view[FILL] = 0.0, 1.0
            for k in range(count[column]):
                t, t_end, u = hits[column, k, 0], hits[column, k, 1], hits[column, k, 2]
                if t > t_ground:
                    break
                kind, item, face = kind_of[column, k, 0], kind_of[column, k, 1], kind_of[column, k, 2]
                z = cz + t * slope
                if kind == BUILDING:
                    row, paint = buildings[item], paints[item]
                    found = _see_building(row, ids[item], paint, t, t_end, u, face, z, cz, slope, env, view)
                elif kind in (CAR, GLASS):
                    found = _see_car(objects[item], kind, t, t_end, u, face, z, cz, slope, env, view)
                elif kind == POLE:
                    is_trunk = item < 0
                    reach = trees[-1 - item, CROWN_Z] if is_trunk else 5.2
                    found = _see_pole(reach, is_trunk, t, z, dx, dy, env, view)
                elif kind == LAMP:
                    found = _see_lamp(t, z, env, view)
                elif kind == CROWN:
                    found = _see_crown(trees[item], item, t, t_end, u, t_ground, cx, cy, cz, dx, dy, slope, env, view)
                elif kind == PERSON:
                    found = _see_person(objects[item], t, u, z, view)
                if found:
                    break
            if not found and t_ground < 400:
                _see_ground(cx + t_ground * dx, cy + t_ground * dy, t_ground, street_x, street_y, env, view)
                found = True
            if found:
                _light(out, px, py, cx, cy, dx, dy, x_low, y_low, shadow, env, view)
                continue
            _sky(az, slope, env, view)
            for c in range(3):
                out[py, px, c] = view[c] * (1 - env[SKY_HAZE]) + env[HORIZON + c] * env[SKY_HAZE]


def render(city: City, camera: Camera, conditions: Conditions, width: int, height: int) -> NDArray[np.float32]:
    """Draw the view of a camera.

    Returns:
        ``(height, width, 3)`` linear light, before the camera's exposure; see ``develop``.
    """
    w, h = width * SUPERSAMPLE, height * SUPERSAMPLE
    focal = w / 2 / math.tan(camera.field_of_view / 2)
    half_diagonal = math.atan(math.hypot(w, h) / 2 / focal) + abs(camera.pitch) + 0.02
    step = 0.75 / focal
    num_columns = int(2 * half_diagonal / step) + 2
    az0 = -half_diagonal
    azimuths = camera.direction + az0 + (np.arange(num_columns) + 0.5) * step
    dirs = np.stack([np.cos(azimuths), np.sin(azimuths)], axis=1)
    dirs[np.abs(dirs) < 1e-9] = 1e-9
    place = np.array(
        [camera.x, camera.y, camera.height, camera.direction, camera.pitch, camera.roll, focal], dtype=np.float64
    )
    cols, rows = city.shape
    objects = conditions.objects
    lamps = city.lamps[np.abs(city.lamps - (camera.x, camera.y)).max(axis=1) < 70]
    street_x = city.street_x[np.abs(city.street_x[:, 0] - camera.x) < 2 * FAR_M]
    street_y = city.street_y[np.abs(city.street_y[:, 0] - camera.y) < 2 * FAR_M]
    count, hits, kind_of = _columns(
        place, az0, step, dirs, city.buildings, city.cell_start, city.cell_items, city.trees, city.tree_start,
        city.tree_items, rows, cols, objects, lamps,
    )  # fmt: skip
    shadow = _shadow_map(
        camera.x, camera.y, conditions.env[SUN : SUN + 3], city.buildings, city.cell_start, city.cell_items, city.trees,
        city.tree_start, city.tree_items, rows, cols, conditions.env[LEAF],
    )  # fmt: skip
    out = np.empty((h, w, 3), np.float32)
    scene = (city.buildings, city.building_ids, conditions.paints, city.trees, objects)
    _picture(out, place, az0, step, (count, hits, kind_of), scene, street_x, street_y, shadow, conditions.env)
    samples = out.reshape(height, SUPERSAMPLE, width, SUPERSAMPLE, 3)
    added = sum(samples[:, i, :, j] for i in range(SUPERSAMPLE) for j in range(SUPERSAMPLE))  # mean is six times slower
    return added / np.float32(SUPERSAMPLE**2)


def develop(light: NDArray[np.float32], lens: Lens, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Develop linear light into an 8-bit sRGB picture ``(height, width, 3)``."""
    height, width = light.shape[:2]
    y = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    x = np.linspace(-1, 1, width, dtype=np.float32)[None, :]
    shade = lens.exposure * (1 - lens.vignette * 0.5 * (x * x + y * y))
    picture = 1 - np.exp(-light * shade[..., None] * np.array(lens.balance, np.float32))
    if lens.blur_px > 0.05:
        picture = gaussian_filter(picture, (lens.blur_px, lens.blur_px, 0), truncate=2.5)
    picture = np.power(picture, 1 / 2.0, dtype=np.float32)
    picture += lens.noise * rng.standard_normal(picture.shape, dtype=np.float32)
    return (np.clip(picture, 0, 1) * 255 + 0.5).astype(np.uint8)
