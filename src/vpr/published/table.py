"""The table of published models: their specification, and the rules that rename their tensors to ours."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from vpr.model.spec import ModelSpec

Rules = Sequence[tuple[str, str]]  # regular expressions and replacements; the first match is used

_TORCHVISION_RESNET: Rules = (
    (r"^backbone\.model\.conv1\.", "backbone.stem.0."),
    (r"^backbone\.model\.bn1\.", "backbone.stem.1."),
    (r"^backbone\.model\.layer1\.", "backbone.stages.0."),
    (r"^backbone\.model\.layer2\.", "backbone.stages.1."),
    (r"^backbone\.model\.layer3\.", "backbone.stages.2."),
    (r"^backbone\.model\.layer4\.", "backbone.stages.3."),
)
_CHILDREN_RESNET: Rules = (
    (r"^backbone\.0\.", "backbone.stem.0."),
    (r"^backbone\.1\.", "backbone.stem.1."),
    (r"^backbone\.4\.", "backbone.stages.0."),
    (r"^backbone\.5\.", "backbone.stages.1."),
    (r"^backbone\.6\.", "backbone.stages.2."),
    (r"^backbone\.7\.", "backbone.stages.3."),
)
_CHILDREN_VGG16: Rules = tuple(
    (rf"^backbone\.{layer}\.", f"backbone.{part}.{layer}.")
    for part, layers in (
        ("stem", (0, 2)),
        ("stages.0", (5, 7)),
        ("stages.1", (10, 12, 14)),
        ("stages.2", (17, 19, 21)),
        ("stages.3", (24, 26, 28)),
    )
    for layer in layers
)
_BOQ_RESNET: Rules = (
    (r"^backbone\.frozen_layers\.0\.", "backbone.stem."),
    (r"^backbone\.frozen_layers\.1\.", "backbone.stages.0."),
    (r"^backbone\.frozen_layers\.2\.", "backbone.stages.1."),
    (r"^backbone\.unfrozen_layers\.0\.", "backbone.stages.2."),
    (r"^backbone\.net\.0\.", "backbone.stem.0."),
    (r"^backbone\.net\.1\.", "backbone.stem.1."),
    (r"^backbone\.net\.4\.", "backbone.stages.0."),
    (r"^backbone\.net\.5\.", "backbone.stages.1."),
    (r"^backbone\.net\.6\.", "backbone.stages.2."),
)
_BOQ: Rules = (
    (r"^aggregator\.proj_c\.", "aggregator.project."),
    (r"^aggregator\.norm_input\.", "aggregator.norm."),
    (r"^aggregator\.boqs\.(\d+)\.self_attn\.", r"aggregator.blocks.\1.self_attention."),
    (r"^aggregator\.boqs\.(\d+)\.cross_attn\.", r"aggregator.blocks.\1.cross_attention."),
    (r"^aggregator\.boqs\.(\d+)\.norm_q\.", r"aggregator.blocks.\1.norm_queries."),
    (r"^aggregator\.boqs\.(\d+)\.norm_out\.", r"aggregator.blocks.\1.norm_answers."),
    (r"^aggregator\.boqs\.(\d+)\.", r"aggregator.blocks.\1."),
    (r"^aggregator\.fc\.", "aggregator.mix."),
)
_MIXVPR: Rules = (
    (r"^aggregator\.mix\.(\d+)\.mix\.", r"aggregator.mixers.\1.mix."),
    (r"^aggregator\.channel_proj\.", "aggregator.project_channels."),
    (r"^aggregator\.row_proj\.", "aggregator.project_rows."),
)
_SALAD: Rules = (
    (r"^aggregator\.token_features\.", "aggregator.token."),
    (r"^aggregator\.cluster_features\.", "aggregator.reduce."),
    (r"^aggregator\.score\.", "aggregator.score."),
    (r"^aggregator\.dust_bin$", "aggregator.dustbin"),
)
_MEGALOC: Rules = (
    *((pattern.replace("^aggregator", r"^aggregator\.agg"), ours) for pattern, ours in _SALAD),
    (r"^aggregator\.linear\.", "aggregator.project."),
)
_COSPLACE: Rules = ((r"^aggregation\.1\.p$", "aggregator.p"), (r"^aggregation\.3\.", "aggregator.project."))
_CONVAP: Rules = ((r"^aggregator\.channel_pool\.", "aggregator.reduce."),)


def _dinov2(prefix: str) -> Rules:
    return (
        (rf"^backbone\.{prefix}\.patch_embed\.proj\.", "backbone.patch_embed."),
        (rf"^backbone\.{prefix}\.", "backbone."),
    )


UNUSED = re.compile(r"(mask_token$|^backbone\.model\.fc\.|^backbone\.(dino\.)?norm\.|\.num_batches_tracked$)")
_NO_LICENCE = "none stated; see its repository"


@dataclass(frozen=True)
class Published:
    """A published model.

    Attributes:
        spec: Specification of our equivalent model.
        rules: Rules that rename its tensors to ours.
        source: Page of its authors.
        url: Address of the weights.
        trained_on: Datasets that it was trained on.
        licence: Licence of the weights.
    """

    spec: ModelSpec
    rules: Rules
    source: str
    url: str
    trained_on: str
    licence: str


_GITHUB = "https://github.com"
_TORCHVISION_NAMES = {"vgg16": "VGG16", **{f"resnet{depth}": f"ResNet{depth}" for depth in (18, 50, 101, 152)}}


def _by_berton(method: str, network: str, dimension: int) -> Published:
    """Return a model of CosPlace or EigenPlaces. Their VGG-16 ends before its last ReLU."""
    repository = f"{_GITHUB}/gmberton/{ {'cosplace': 'CosPlace', 'eigenplaces': 'EigenPlaces'}[method] }"
    options: dict[str, Any] = {"layers_to_crop": []} | ({"last_relu": False} if network == "vgg16" else {})
    spec = ModelSpec(network, options, "cosplace", {"descriptor_dim": dimension}, (512, 512))
    rules = _CHILDREN_VGG16 if network == "vgg16" else _CHILDREN_RESNET
    url = f"{repository}/releases/download/v1.0/{_TORCHVISION_NAMES[network]}_{dimension}_{method}.pth"
    return Published(spec, (*rules, *_COSPLACE), repository, url, "SF-XL", "MIT")


def _convap(dimension: int) -> Published:
    """Return ConvAP on a complete ResNet-50; gsv-cities crops no stage for it."""
    options = {"out_channels": dimension // 4, "s1": 2, "s2": 2}
    spec = ModelSpec("resnet50", {"layers_to_crop": []}, "convap", options, (320, 320))
    url = f"gdrive://1VYPw9uGD11NgiGFgfWueLt3noJYOIuhL/resnet50_ConvAP_{dimension // 4}_2x2.ckpt"
    rules = (*_TORCHVISION_RESNET, *_CONVAP)
    return Published(spec, rules, f"{_GITHUB}/amaralibey/gsv-cities", url, "GSV-Cities", _NO_LICENCE)


def _mixvpr(dimension: int, channels: int, rows: int, drive_id: str) -> Published:
    options = {"out_channels": channels, "out_rows": rows, "mix_depth": 4, "mlp_ratio": 1.0}
    assert channels * rows == dimension
    spec = ModelSpec("resnet50", {"layers_to_crop": [4]}, "mixvpr", options, (320, 320))
    rules = (*_TORCHVISION_RESNET, *_MIXVPR)
    return Published(spec, rules, f"{_GITHUB}/amaralibey/MixVPR", f"gdrive://{drive_id}", "GSV-Cities", _NO_LICENCE)


def _boq(backbone: str, dimension: int, size: int, options: dict[str, Any], rules: Rules) -> Published:
    head = {"proj_channels": dimension // 32, "num_queries": 64, "num_layers": 2, "row_dim": 32}
    repository = f"{_GITHUB}/amaralibey/Bag-of-Queries"
    name = f"{backbone.removesuffix('_vitb14')}_{dimension}"
    url = f"{repository}/releases/download/v1.0/{name}.pth"
    spec = ModelSpec(backbone, options, "boq", head, (size, size))
    return Published(spec, (*rules, *_BOQ), repository, url, "GSV-Cities", "MIT")


_SALAD_SPEC = ModelSpec("dinov2_vitb14", {"layers_to_crop": []}, "salad", {}, (322, 322))
_MEGALOC_SPEC = ModelSpec(
    "dinov2_vitb14", {"layers_to_crop": []}, "salad", {"cluster_dim": 256, "descriptor_dim": 8448}, (322, 322)
)
_COSPLACE_SIZES = {
    "vgg16": (64, 128, 256, 512),
    "resnet18": (32, 64, 128, 256, 512),
    **{f"resnet{depth}": (32, 64, 128, 256, 512, 1024, 2048) for depth in (50, 101, 152)},
}
_EIGENPLACES_SIZES = {
    "vgg16": (512,),
    "resnet18": (256, 512),
    **{f"resnet{depth}": (128, 256, 512, 1024, 2048) for depth in (50, 101)},
}

PUBLISHED: dict[str, Published] = {
    "megaloc": Published(
        _MEGALOC_SPEC,
        (*_dinov2("model"), *_MEGALOC),
        f"{_GITHUB}/gmberton/MegaLoc",
        f"{_GITHUB}/gmberton/MegaLoc/releases/download/v1.0/megaloc.torch",
        "GSV-Cities, MSLS, SF-XL, MegaScenes and ScanNet",
        "MIT",
    ),
    "salad_dinov2_8448": Published(
        _SALAD_SPEC,
        (*_dinov2("model"), *_SALAD),
        f"{_GITHUB}/serizba/salad",
        f"{_GITHUB}/serizba/salad/releases/download/v1.0.0/dino_salad.ckpt",
        "GSV-Cities",
        _NO_LICENCE,
    ),
    "cliquemining_dinov2_8448": Published(
        _SALAD_SPEC,
        (*_dinov2("model"), *_SALAD),
        f"{_GITHUB}/serizba/cliquemining",
        "gdrive://1B06ysb-Wjb4KDcNrl-7pyj1mJve1jqdk",
        "GSV-Cities and MSLS",
        _NO_LICENCE,
    ),
    "boq_dinov2_12288": _boq("dinov2_vitb14", 12288, 322, {"layers_to_crop": [], "final_norm": False}, _dinov2("dino")),
    "boq_resnet50_16384": _boq("resnet50", 16384, 384, {"layers_to_crop": [4]}, _BOQ_RESNET),
    "mixvpr_resnet50_4096": _mixvpr(4096, 1024, 4, "1vuz3PvnR7vxnDDLQrdHJaOA04SQrtk5L"),
    "mixvpr_resnet50_512": _mixvpr(512, 256, 2, "1khiTUNzZhfV2UUupZoIsPIbsMRBYVDqj"),
    "mixvpr_resnet50_128": _mixvpr(128, 64, 2, "1DQnefjk1hVICOEYPwE4-CZAZOvi1NSJz"),
    **{f"convap_resnet50_{dimension}": _convap(dimension) for dimension in (512, 2048, 4096, 8192)},
    **{
        f"{method}_{network}_{dimension}": _by_berton(method, network, dimension)
        for method, sizes in (("cosplace", _COSPLACE_SIZES), ("eigenplaces", _EIGENPLACES_SIZES))
        for network, dimensions in sizes.items()
        for dimension in dimensions
    },
}
