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

    from vpr.api.hloc import describe_photos, photo_names, write_descriptors

    names = photo_names(args.photos)
    descriptors = describe_photos(args.photos, names, chosen_model(args))
    write_descriptors(args.h5, names, descriptors)
    print(f"{args.h5}: {len(names):,} descriptors of {descriptors.shape[1]} numbers")
    return 0


def pairs(args: argparse.Namespace) -> int:
    """Write pairs of each image and its nearest images."""
    from vpr.api.hloc import check_pair_names, describe_photos, nearest_pairs, photo_names, write_pairs

    folders = [args.photos, *([args.database] if args.database else [])]
    names = [photo_names(folder) for folder in folders]
    check_pair_names([name for of_folder in names for name in of_folder])
    model = chosen_model(args)
    described = [(part, describe_photos(folder, part, model)) for folder, part in zip(folders, names, strict=True)]
    found = nearest_pairs(described[0], described[1] if args.database else None, args.top)
    write_pairs(args.out, found)
    print(f"{args.out}: {len(found):,} pairs of {len(names[0]):,} images")
    return 0
