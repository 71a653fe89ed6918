"""docs/components.md: every component with its options, its size and its paper, from the code itself.

Run: make docs
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from vpr.aggregators import AGGREGATORS, build_aggregator
from vpr.backbones import BACKBONES, build_backbone
from vpr.components import with_defaults
from vpr.losses import LOSSES, WITH_MEMORY, WITHOUT_MINER, build_loss
from vpr.miners import MINERS

SIDE_PX = 320
_OF_TRAIN = {"layers_to_crop", "layers_to_freeze"}

PAPERS: dict[str, str] = {
    "resnet": "[He 2016](https://arxiv.org/abs/1512.03385)",
    "resnext": "[Xie 2017](https://arxiv.org/abs/1611.05431)",
    "efficientnet": "[Tan 2019](https://arxiv.org/abs/1905.11946)",
    "swin": "[Liu 2022](https://arxiv.org/abs/2111.09883)",
    "convnext": "[Liu 2022](https://arxiv.org/abs/2201.03545)",
    "vgg": "[Simonyan 2015](https://arxiv.org/abs/1409.1556)",
    "dinov2": "[Oquab 2024](https://arxiv.org/abs/2304.07193)",
    "timm": "[timm](https://huggingface.co/docs/timm)",
    "avg": "",
    "max": "[Tolias 2016](https://arxiv.org/abs/1511.05879)",
    "gem": "[Radenović 2018](https://arxiv.org/abs/1711.02512)",
    "cosplace": "[Berton 2022](https://arxiv.org/abs/2204.02287)",
    "convap": "[Ali-bey 2022](https://arxiv.org/abs/2210.10239)",
    "mixvpr": "[Ali-bey 2023](https://arxiv.org/abs/2303.02190)",
    "netvlad": "[Arandjelović 2016](https://arxiv.org/abs/1511.07247)",
    "salad": "[Izquierdo 2024](https://arxiv.org/abs/2311.15937)",
    "boq": "[Ali-bey 2024](https://arxiv.org/abs/2405.07364)",
    "AngularLoss": "[Wang 2017](https://arxiv.org/abs/1708.01682)",
    "ArcFaceLoss": "[Deng 2019](https://arxiv.org/abs/1801.07698)",
    "CentroidTripletLoss": "[Wieczorek 2021](https://arxiv.org/abs/2104.13643)",
    "CircleLoss": "[Sun 2020](https://arxiv.org/abs/2002.10857)",
    "ContrastiveLoss": "[Hadsell 2006](https://doi.org/10.1109/CVPR.2006.100)",
    "CosFaceLoss": "[Wang 2018](https://arxiv.org/abs/1801.09414)",
    "FastAPLoss": "[Cakir 2019](https://openaccess.thecvf.com/content_CVPR_2019/html/Cakir_Deep_Metric_Learning_to_Rank_CVPR_2019_paper.html)",
    "GeneralizedLiftedStructureLoss": "[Hermans 2017](https://arxiv.org/abs/1703.07737)",
    "InstanceLoss": "[Zheng 2020](https://arxiv.org/abs/1711.05535)",
    "IntraPairVarianceLoss": "[Yu 2019](https://openaccess.thecvf.com/content_ICCV_2019/html/Yu_Deep_Metric_Learning_With_Tuplet_Margin_Loss_ICCV_2019_paper.html)",
    "LiftedStructureLoss": "[Song 2016](https://arxiv.org/abs/1511.06452)",
    "MarginLoss": "[Wu 2017](https://arxiv.org/abs/1706.07567)",
    "MultiSimilarityLoss": "[Wang 2019](https://arxiv.org/abs/1904.06627)",
    "NCALoss": "[Goldberger 2004](https://papers.nips.cc/paper/2566-neighbourhood-components-analysis)",
    "NPairsLoss": "[Sohn 2016](https://papers.nips.cc/paper/6200-improved-deep-metric-learning-with-multi-class-n-pair-loss-objective)",
    "NTXentLoss": "[Chen 2020](https://arxiv.org/abs/2002.05709)",
    "NormalizedSoftmaxLoss": "[Zhai 2019](https://arxiv.org/abs/1811.12649)",
    "P2SGradLoss": "[Zhang 2019](https://arxiv.org/abs/1905.02479)",
    "PNPLoss": "[Li 2021](https://arxiv.org/abs/2102.04640)",
    "ProxyAnchorLoss": "[Kim 2020](https://arxiv.org/abs/2003.13911)",
    "ProxyNCALoss": "[Movshovitz-Attias 2017](https://arxiv.org/abs/1703.07464)",
    "RankedListLoss": "[Wang 2019](https://arxiv.org/abs/1903.03238)",
    "SignalToNoiseRatioContrastiveLoss": "[Yuan 2019](https://arxiv.org/abs/1904.02616)",
    "SmoothAPLoss": "[Brown 2020](https://arxiv.org/abs/2007.12163)",
    "SoftTripleLoss": "[Qian 2019](https://arxiv.org/abs/1909.05235)",
    "SubCenterArcFaceLoss": "[Deng 2020](https://doi.org/10.1007/978-3-030-58621-8_43)",
    "SupConLoss": "[Khosla 2020](https://arxiv.org/abs/2004.11362)",
    "ThresholdConsistentMarginLoss": "[Zhang 2024](https://arxiv.org/abs/2307.04047)",
    "TripletMarginLoss": "[Schroff 2015](https://arxiv.org/abs/1503.03832)",
    "TupletMarginLoss": "[Yu 2019](https://openaccess.thecvf.com/content_ICCV_2019/html/Yu_Deep_Metric_Learning_With_Tuplet_Margin_Loss_ICCV_2019_paper.html)",
    "AngularMiner": "[Wang 2017](https://arxiv.org/abs/1708.01682)",
    "BatchEasyHardMiner": "[Xuan 2020](https://arxiv.org/abs/1904.04370)",
    "BatchHardMiner": "[Hermans 2017](https://arxiv.org/abs/1703.07737)",
    "DistanceWeightedMiner": "[Wu 2017](https://arxiv.org/abs/1706.07567)",
    "HDCMiner": "[Yuan 2017](https://arxiv.org/abs/1611.05720)",
    "MultiSimilarityMiner": "[Wang 2019](https://arxiv.org/abs/1904.06627)",
    "PairMarginMiner": "",
    "TripletMarginMiner": "[Schroff 2015](https://arxiv.org/abs/1503.03832)",
    "UniformHistogramMiner": "",
    "none": "",
}

PAGE = """# Components

Written by `make docs` from the code; a test keeps it current. Any backbone goes with any aggregator, loss and miner,
except where this page says so. Options stand in `params.yaml` under the component's name; values of another type,
unknown options and pairs that do not go together are refused before anything is downloaded, with the reason.

Sizes are for images of 320 x 320 pixels (DINOv2: 322 x 322, as its patches are 14 pixels wide). Multiply-adds count
convolutions, matrix products and attention of one image.

## Backbones

`layers_to_crop: [4]` leaves the last of four stages out, as the paper does; `[]` keeps all. Both are set in
`train.<dataset>`.

{backbones}

## Aggregators

Descriptor, parameters and multiply-adds are the aggregator's own, after ResNet-18 and ResNet-50 with
`layers_to_crop: [4]` (maps of 256 and 1024 channels, 20 x 20). mixvpr has weights for one size of the map: it follows
from `image_size` and backbone when a model is built, and a trained one refuses images of another size. The others
take any that leaves them more positions than salad has clusters. dinov2 hands its class token to salad; other
backbones lend it the mean of their features.

{aggregators}

## Losses

Classes of [pytorch-metric-learning](https://kevinmusgrave.github.io/pytorch-metric-learning/losses/) by their names,
save CentroidTripletLoss. Distances are the ones each loss needs: cosine or dot product where it compares
similarities, L2 of unit vectors elsewhere. Weights of its own are optimised with the model and kept while it trains.
A loss that takes no miner compares all images of a batch by its definition and is refused with any `miner` but
`none`.

{losses}

## Miners

{miners}

A batch of which a miner picks nothing has loss 0 and moves no weight. `metrics/training.csv` and MLflow count such
batches (`batches_without_pairs`) beside `informative_share`, the share of pairs or triplets that were picked.
AngularMiner's and NTXentLoss's largest tensors are counted before anything runs; what cannot fit in memory is refused
with the arithmetic.

## Batches

| key of `train.<dataset>` | what it does |
|---|---|
| `batches: random` | places as they come |
| `batches: city` | places of one city at a time: the column `city`, or what comes before the last slash of `place_id` |
| `batches: alike` | groups of `alike_places` places that look alike: in each epoch the current model describes one image of each place; places x descriptor size x 8 bytes of memory, and an exact search |
| `min_place_distance_m` | no two places of a batch nearer to each other than this; needs coordinates |
| `memory_size` | cross-batch memory ([Wang 2020](https://arxiv.org/abs/1912.06798)): the loss also compares with so many descriptors of earlier batches; for the losses marked, with any miner but BatchEasyHardMiner |

## After training

`export.pca_dim` projects descriptors by PCA ([Jégou 2012](https://doi.org/10.1007/978-3-642-33709-3_55)), fitted on
`pca_images` training images, `whiten` makes all directions vary alike, and `export.image_size` evaluates at another
size. They are part of the model that is evaluated, and changing them trains nothing again.
"""  # noqa: E501


def options_of(build: Callable[..., Any]) -> str:
    """Options with their defaults, as they stand in params.yaml."""
    shown = {k: v for k, v in with_defaults(build, {}).items() if k not in _OF_TRAIN}
    return ", ".join(f"`{name}: {_yaml(value)}`" for name, value in shown.items())


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


def paper_of(name: str) -> str:
    """The link of a component, or of the family that a backbone belongs to."""
    return PAPERS[name] if name in PAPERS else next(v for k, v in reversed(PAPERS.items()) if name.startswith(k))


def backbone_rows() -> Iterable[list[str]]:
    """Feature map, parameters and multiply-adds, cropped and whole."""
    for name, build in BACKBONES.items():
        side = 322 if name.startswith("dinov2") else SIDE_PX
        cells = []
        for crop in ([4], []):
            backbone = build_backbone(name, None, layers_to_crop=crop).eval()
            out, parameters, adds = cost(backbone, torch.zeros(1, 3, side, side))
            channels, height, width = out.shape[1:]
            cells += [f"{channels} x {height} x {width}", f"{parameters / 1e6:.1f} M", f"{adds / 1e9:.1f} G"]
        yield [f"`{name}`", options_of(build), *cells, paper_of(name)]


def aggregator_rows() -> Iterable[list[str]]:
    """Descriptor size, parameters and multiply-adds after the paper's ResNets."""
    for name, cls in AGGREGATORS.items():
        parts = []
        for channels in (256, 1024):
            aggregator: Any = build_aggregator(name, channels, (SIDE_PX // 16, SIDE_PX // 16)).eval()
            inputs = [torch.zeros(1, channels, SIDE_PX // 16, SIDE_PX // 16)]
            if getattr(aggregator, "wants_token", False):
                inputs.append(torch.zeros(1, channels))
            parts.append((aggregator.descriptor_dim, *cost(aggregator, *inputs)[1:]))
        cells = [f"{dim} | {parameters / 1e6:.2f} M | {adds / 1e9:.2f} G" for dim, parameters, adds in parts]
        yield [f"`{name}`", options_of(cls), *cells, paper_of(name)]


def loss_rows() -> Iterable[list[str]]:
    """Whether a loss has weights of its own, and takes a miner and a memory."""
    for name, build in LOSSES.items():
        with torch.device("cpu"):
            weights = any(True for _ in build_loss(name, 8, 4).parameters())
        miner, memory = name not in WITHOUT_MINER, name in WITH_MEMORY
        yield [
            f"`{name}`", options_of(build), "yes" if weights else "", "yes" if miner else "no", "yes" if memory else "",
            paper_of(name),
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
    miners = table(["`miner`", "options", "paper"], ([f"`{n}`", options_of(b), paper_of(n)] for n, b in MINERS.items()))
    return PAGE.format(backbones=backbones, aggregators=aggregators, losses=losses, miners=miners)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("path", type=Path, help="Markdown file to write")
    parser.parse_args().path.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
