"""The options of a city that is drawn in a second."""

from __future__ import annotations

TINY_CITY = {
    "seed": 3,
    "width": 48,
    "height": 36,
    "train_cities": 2,
    "train_places": 8,
    "images_per_place": [3, 4],
    "blocks": 2,
    "database_spacing_m": 30.0,
    "database_headings": 2,
    "num_queries": 6,
    "variety": 0.4,
    "night": 0.1,
    "night_queries": 0.8,
    "query_heading_sd_deg": 8.0,
    "years": [2010, 2020],
}
