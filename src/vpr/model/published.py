"""Published weights -> a checkpoint of this project, by mapping the names of their state dicts.

``vpr import mixvpr_resnet50_4096 weights.ckpt`` writes ``data/published/mixvpr_resnet50_4096.ckpt``. Then name the
result in ``train.checkpoint``: extract and evaluate run on it as on our own.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from vpr.config.errors import UserError
from vpr.model.backbones.weights import read_state_dict
from vpr.model.checkpoint import save_checkpoint
from vpr.model.spec import ModelSpec
from vpr.model.vpr_model import VPRModel

Rules = Sequence[tuple[str, str]]  # regular expression and replacement; the first that matches is taken

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
_COSPLACE: Rules = ((r"^aggregation\.1\.p$", "aggregator.p"), (r"^aggregation\.3\.", "aggregator.project."))
_CONVAP: Rules = ((r"^aggregator\.channel_pool\.", "aggregator.reduce."),)


def _dinov2(prefix: str) -> Rules:
    return (
        (rf"^backbone\.{prefix}\.patch_embed\.proj\.", "backbone.patch_embed."),
        (rf"^backbone\.{prefix}\.", "backbone."),
    )


_UNUSED = re.compile(r"(mask_token$|^backbone\.model\.fc\.|^backbone\.(dino\.)?norm\.|\.num_batches_tracked$)")


@dataclass(frozen=True)
class Published:
    """A published model.

    Attributes:
        spec: ours of the same model.
        rules: its names -> ours.
        source: where its weights are published.
    """

    spec: ModelSpec
    rules: Rules
    source: str


def _cosplace(network: str, dimension: int, method: str) -> Published:
    release = {
        "cosplace": "https://github.com/gmberton/CosPlace",
        "eigenplaces": "https://github.com/gmberton/EigenPlaces",
    }[method]
    spec = ModelSpec(network, {"layers_to_crop": []}, "cosplace", {"descriptor_dim": dimension}, (512, 512))
    return Published(spec, (*_CHILDREN_RESNET, *_COSPLACE), release)


def _convap(dimension: int) -> Published:
    """ConvAP on a whole ResNet-50; gsv-cities crops no stage for it."""
    options = {"out_channels": dimension // 4, "s1": 2, "s2": 2}
    spec = ModelSpec("resnet50", {"layers_to_crop": []}, "convap", options, (320, 320))
    return Published(spec, (*_TORCHVISION_RESNET, *_CONVAP), "https://github.com/amaralibey/gsv-cities")


PUBLISHED: dict[str, Published] = {
    **{f"convap_resnet50_{dimension}": _convap(dimension) for dimension in (512, 2048, 4096, 8192)},
    "mixvpr_resnet50_4096": Published(
        ModelSpec(
            "resnet50",
            {"layers_to_crop": [4]},
            "mixvpr",
            {"out_channels": 1024, "out_rows": 4, "mix_depth": 4, "mlp_ratio": 1.0},
            (320, 320),
        ),
        (*_TORCHVISION_RESNET, *_MIXVPR),
        "https://github.com/amaralibey/MixVPR",
    ),
    **{
        f"{method}_{network}_512": _cosplace(network, 512, method)
        for method in ("cosplace", "eigenplaces")
        for network in ("resnet18", "resnet50")
    },
    **{f"{method}_resnet50_2048": _cosplace("resnet50", 2048, method) for method in ("cosplace", "eigenplaces")},
    "salad_dinov2_8448": Published(
        ModelSpec("dinov2_vitb14", {"layers_to_crop": []}, "salad", {}, (322, 322)),
        (*_dinov2("model"), *_SALAD),
        "https://github.com/serizba/salad",
    ),
    "boq_resnet50_16384": Published(
        ModelSpec(
            "resnet50",
            {"layers_to_crop": [4]},
            "boq",
            {"proj_channels": 512, "num_queries": 64, "num_layers": 2, "row_dim": 32},
            (384, 384),
        ),
        (*_BOQ_RESNET, *_BOQ),
        "https://github.com/amaralibey/Bag-of-Queries",
    ),
    "boq_dinov2_12288": Published(
        ModelSpec(
            "dinov2_vitb14",
            {"layers_to_crop": [], "final_norm": False},
            "boq",
            {"proj_channels": 384, "num_queries": 64, "num_layers": 2, "row_dim": 32},
            (322, 322),
        ),
        (*_dinov2("dino"), *_BOQ),
        "https://github.com/amaralibey/Bag-of-Queries",
    ),
}


def convert(name: str, state: dict[str, Tensor]) -> VPRModel:
    """The published model in our form, in evaluation mode.

    Args:
        name: a key of ``PUBLISHED``.
        state: its state dict.

    Raises:
        UserError: if names or shapes are not those of that model; the message names them.
    """
    published = PUBLISHED[name]
    renamed: dict[str, Tensor] = {}
    unknown = []
    for key, value in state.items():
        for pattern, replacement in published.rules:
            if re.search(pattern, key):
                renamed[re.sub(pattern, replacement, key)] = value
                break
        else:
            unknown.append(key)
    model = VPRModel(published.spec)
    own = model.state_dict()
    unknown = [key for key in unknown if not _UNUSED.search(key)]
    renamed = {key: value for key, value in renamed.items() if key in own or not _UNUSED.search(key)}
    counters = {key: value for key, value in own.items() if key.endswith("num_batches_tracked")}
    missing = sorted(set(own) - set(renamed) - set(counters))
    more = sorted({*unknown, *(set(renamed) - set(own))})
    if missing or more:
        raise UserError(
            f"these are not weights of {name}: {len(missing)} of the model's are missing, {missing[:3]} first, and "
            f"{len(more)} do not belong to it, such as {more[:3]}"
        )
    wrong = [
        f"{key} {tuple(value.shape)} instead of {tuple(own[key].shape)}"
        for key, value in renamed.items()
        if value.shape != own[key].shape
    ]
    if wrong:
        raise UserError(f"these are not weights of {name}: {wrong[0]}")
    model.load_state_dict({**counters, **renamed})
    return model.eval()


def convert_file(name: str, weights: Path, checkpoint: Path) -> None:
    """Write our checkpoint of published weights; see ``convert``."""
    if name not in PUBLISHED:
        raise UserError(f"unknown published model {name!r}; choose one of: {', '.join(sorted(PUBLISHED))}")
    model = convert(name, read_state_dict(weights))
    spec = model.spec
    configuration: dict[str, Any] = {
        "dataset": {"name": PUBLISHED[name].source},
        "backbone": {"name": spec.backbone, **spec.backbone_options},
        "agg": {"name": spec.aggregator, **spec.aggregator_options},
        "loss": {"name": "published"},
        "miner": {"name": "published"},
        "train": {"image_size": list(spec.image_size)},
    }
    save_checkpoint(checkpoint, spec, model.state_dict(), {"configuration": configuration, "epoch": 0})
    print(f"{name}: {checkpoint}, descriptor {model.descriptor_dim}, images {spec.image_size}")
