"""Trainings of 20 steps on the tiny city by several processes: weights to hold against each other.

torchrun --nproc-per-node 2 tests/ranks_training.py CITY.parquet OUT [case ...]
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import torch
from torch.profiler import profile

from vpr.config.params import Choice, Params
from vpr.config.ranks import is_first_rank
from vpr.data.loading import ImageList
from vpr.data.manifest import Manifest, read_manifest, write_manifest
from vpr.training.batches import PlaceSampler
from vpr.training.build import build_criterion, build_model
from vpr.training.cliques import CliqueSampler
from vpr.training.configuration import RunConfiguration
from vpr.training.loop import fit
from vpr.training.params import merge_train
from vpr.training.places import PlaceImages, Places
from vpr.training.run import describe_by
from vpr.training.validation import validation_of

PARAMS = Path(__file__).parents[1] / "params.yaml"
STEPS = 20
SENDS = ("gloo:all_gather", "gloo:all_reduce")
# A pair loss, a triplet loss, one with weights of its own, one with a memory, a miner that draws, batches in chunks (of
# a network without batch norm, which would take its statistics of a chunk), and a miner that picks nothing. Rates are
# low and there is no Adam, as a rounding error may make a miner pick another pair, or a weight go the other way.
CASES = {
    "pairs": ("MultiSimilarityLoss", "MultiSimilarityMiner", {}),
    "triplets": ("TripletMarginLoss", "TripletMarginMiner", {"batches": "similar", "similar_places": 2}),
    "cliques": ("MultiSimilarityLoss", "MultiSimilarityMiner", {"batches": "cliques", "similar_places": 2}),
    "proxies": ("ProxyNCALoss", "none", {}),
    "memory": ("ContrastiveLoss", "PairMarginMiner", {"memory_size": 20}),
    "drawn": ("MarginLoss", "DistanceWeightedMiner", {}),
    "chunks": ("NTXentLoss", "none", {"images_per_forward": 3, "num_workers": 1}),
    "nothing": ("MarginLoss", "PairMarginMiner", {"weight_decay": 0.1}),
}


def configuration_of(case: str, num_ranks: int) -> RunConfiguration:
    """The configuration of a case."""
    content = Params.read(PARAMS)
    params = content.content
    loss, miner, changes = CASES[case]
    settings = {
        **merge_train(content, "synthetic").model_dump(),
        "image_size": [24, 32], "layers_to_crop": [2, 3, 4], "places_per_batch": 6, "images_per_place": 2,
        "min_images_per_place": 3, "warmup_steps": 0, "milestones": [], "max_epochs": STEPS, "lr": 1e-3,
        "optimizer": "sgd", "momentum": 0.9, "check_val_every_n_epochs": STEPS, "accelerator": "cpu",
        "num_workers": 0, "precision": "32-true", "devices": num_ranks, **changes,
    }  # fmt: skip
    return RunConfiguration(
        Choice("synthetic", {}),
        Choice("vgg16" if case == "chunks" else "resnet18", {"layers_to_crop": [2, 3, 4], "layers_to_freeze": None}),
        Choice("gem", params["aggregators"]["gem"]),
        Choice(loss, params["losses"][loss] | ({"learn_beta": True} if loss == "MarginLoss" else {})),
        Choice(miner, params["miners"][miner] | ({"pos_margin": -2.0, "neg_margin": 2.0} if case == "nothing" else {})),
        settings,
    )


def train(case: str, city: Manifest, scratch: Path, num_ranks: int) -> dict[str, torch.Tensor]:
    """The weights after ``STEPS`` steps, those of the loss included."""
    configuration = configuration_of(case, num_ranks)
    settings, spec = configuration.settings, configuration.spec
    rows = city.train()
    places = Places(rows, settings.min_images_per_place)
    model = build_model(configuration, None)
    criterion = build_criterion(configuration, model.descriptor_dim, len(places))
    images = ImageList(city.folder, rows["image"], spec.preprocess())
    describe = describe_by(model, images, torch.device("cpu"), settings)
    cliques = settings.batches == "cliques"
    sampler = CliqueSampler(rows, settings, describe) if cliques else PlaceSampler(places, settings, describe)
    validation = validation_of(city, spec, settings, 25.0)
    trained = fit(model, criterion, PlaceImages(images), sampler, validation, settings, 0, scratch)
    of_loss = {f"loss.{name}": value for name, value in criterion.state_dict().items()}
    return {**trained.last, **of_loss, "recall": torch.tensor(trained.history[-1]["val_recall_at_1"])}


def trained_by(
    num_ranks: int, city: Manifest, folder: Path, cases: Sequence[str] = tuple(CASES)
) -> dict[str, dict[str, torch.Tensor]]:
    """The weights of each case, trained by so many processes; one trains here.

    Where the environment has ``PROFILE``, the first of several writes what was sent into ``<case>.json``.
    """
    out = folder / f"ranks-{num_ranks}"
    out.mkdir()
    if num_ranks == 1:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # as the ranks have: another number adds up in another order
        weights = {case: train(case, city, out / case, 1) for case in cases}
        torch.set_num_threads(threads)
        return weights
    write_manifest(city, folder / "city.parquet")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, sys.path)), "OMP_NUM_THREADS": "1"}
    shared |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(num_ranks), "NODE_RANK": "0"}
    command = [sys.executable, __file__, str(folder / "city.parquet"), str(out), *cases]
    with ExitStack() as stack:
        ranks = [
            stack.enter_context(subprocess.Popen(command, env=shared | {"LOCAL_RANK": str(k)}, stderr=subprocess.PIPE))
            for k in range(num_ranks)
        ]
        said = [rank.communicate()[1].decode() for rank in ranks]
    assert [rank.returncode for rank in ranks] == [0] * num_ranks, said
    return {case: torch.load(out / f"{case}.pt") for case in cases}


def greatest_difference(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    """The largest difference of two weights."""
    assert one.keys() == other.keys()
    return max(float((one[k].double() - other[k].double()).abs().max()) for k in one if one[k].numel())


def main() -> None:
    city, out = read_manifest(Path(sys.argv[1])), Path(sys.argv[2])
    num_ranks, writes = int(os.environ["WORLD_SIZE"]), is_first_rank()  # the first training takes them away
    for case in sys.argv[3:] or CASES:
        with ExitStack() as stack:
            seen = stack.enter_context(profile(record_shapes=True)) if "PROFILE" in os.environ else None
            weights = train(case, city, out / f"scratch-{case}", num_ranks)
        if writes:
            torch.save(weights, out / f"{case}.pt")
        if writes and seen is not None:
            sent = Counter((e.name, tuple(e.input_shapes[0])) for e in seen.events() if e.name.startswith(SENDS))
            rows = [{"by": by, "shape": shape, "times": times} for (by, shape), times in sent.items()]
            (out / f"{case}.json").write_text(json.dumps(rows), encoding="utf-8")


if __name__ == "__main__":
    main()
