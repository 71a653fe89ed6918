"""``vpr describe`` and ``vpr pairs``: write descriptors and pairs of images for hloc and COLMAP."""

from __future__ import annotations

import argparse
from pathlib import Path

from vpr.commands.arguments import Commands, add_model, chosen_model, positive


def add_commands(commands: Commands) -> None:
    """Add the commands of this file."""
    one = commands.add("describe", describe, "write the descriptors of a folder's images, for hloc")
    one.add_argument("photos", type=Path, metavar="PHOTOS", help="folder of images")
    one.add_argument("--h5", type=Path, required=True, help="HDF5 file to write")
    add_model(one)

    one = commands.add("pairs", pairs, "write pairs of images to match, for hloc and COLMAP")
    one.add_argument("photos", type=Path, metavar="PHOTOS", help="folder of images")
    one.add_argument("--database", type=Path, help="folder of the images to pair with; by default PHOTOS itself")
    one.add_argument("--top", type=positive(int), default=50, help="number of nearest images to pair with each image")
    one.add_argument("--out", type=Path, required=True, help="text file to write")
    add_model(one)


def describe(args: argparse.Namespace) -> int:
    """Write the descriptors of a folder's images."""
    import h5py  # noqa: F401  # a missing package is reported before anything is described

    from vpr.api.hloc import describe_folder, write_descriptors

    names, descriptors = describe_folder(args.photos, chosen_model(args))
    write_descriptors(args.h5, names, descriptors)
    print(f"{args.h5}: {len(names):,} descriptors of {descriptors.shape[1]} numbers")
    return 0


def pairs(args: argparse.Namespace) -> int:
    """Write pairs of each image and its nearest images."""
    from vpr.api.hloc import describe_folder, nearest_pairs, write_pairs

    model = chosen_model(args)
    queries = describe_folder(args.photos, model)
    database = describe_folder(args.database, model) if args.database else None
    found = nearest_pairs(queries, database, args.top)
    write_pairs(args.out, found)
    print(f"{args.out}: {len(found):,} pairs of {len(queries[0]):,} images")
    return 0
