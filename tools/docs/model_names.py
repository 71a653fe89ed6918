"""docs/published-weights.md: the published models, and how backbones are built."""

from __future__ import annotations

from tools.docs.components import table
from vpr.published.find_model import facts
from vpr.published.table import PUBLISHED

PAGE = """# Models by name

*Written by `make docs` from `src/vpr/published`.*

```python
import vpr

model = vpr.load("megaloc")
descriptors = model.describe(["one.jpg", "another.jpg"])
```

```bash
vpr models                         # list them, with your own registered models and runs
vpr models info megaloc            # licence, size, training data, published recalls
vpr models pull megaloc            # fetch the weights, once for all projects
dvc exp run -S dataset=gsv_xs -S train.checkpoint=$(vpr models pull cosplace_resnet50_512)   # evaluate them
```

Weights are downloaded into `$VPR_HOME`, by default `~/.cache/vpr`. An interrupted download continues, and later
downloads are compared with the hash of the first one. If an address no longer works, use `--mirror ADDRESS`, or
download the file by hand and run `vpr models pull NAME --file FILE`. Downloads from `gdrive://` need `gdown`. A file
that is incomplete or belongs to another model is refused, and loading a file never runs code.

*ConvAP, MixVPR, CosPlace and EigenPlaces, and the aggregators of SALAD, CliqueMining and MegaLoc, are tested against
their authors' definitions, with random weights. For DINOv2 and BoQ, only names and shapes of tensors are tested. The
published files themselves are not part of the tests.*

`vpr.load` also accepts `models:/vpr@champion` and `runs:/<id>` of MLflow, `hf://owner/name` of the
[Hugging Face Hub](library.md#the-hugging-face-hub), and the path of a checkpoint.
[torch.hub](library.md#torchhub) gives the same models.

The number at the end of a name is the size of the descriptor, as in `cosplace_resnet50_512`. MegaLoc's is 8448.

{models}

[Published recalls](reproduction.md) lists what the authors report. Images are resized to the given size, bilinearly
with antialiasing. The authors of CosPlace and EigenPlaces evaluate images at their original size, and the authors of
BoQ and of `convap_resnet50_4096` resize bicubically, so the last digit can differ.

DVC compares only the path of a file in `weights` or `checkpoint`, not its content, so give a new file a new name.

# What backbones have in common

[Components](components.md) lists names, options and sizes. Every backbone has a stem and four stages, so
`layers_to_crop` and `layers_to_freeze` mean the same for all. Stage 1 ends at stride 4, and each further stage doubles
the stride. VGG-16 has no last pooling layer here, so its strides are 4, 8, 16 and 16. In DINOv2 and timm's plain
transformers a stage is a quarter of the blocks. Frozen parts stay in evaluation mode. `weights` is `null`, `imagenet`
or a file. For DINOv2 and timm, `imagenet` means their published weights. A file can be a state dict, a checkpoint of
this project, or another project's checkpoint that contains the network; it need not contain the cropped stages. DINOv2
requires image sizes in multiples of 14, and resizes its position embeddings as its authors do.
`backbones.dinov2_vitb14.trained_blocks: 4` trains only the last four blocks, with `layers_to_freeze: null`."""


def page() -> str:
    """Return the page, with one row for the models of a family that differ only in descriptor size."""
    sizes: dict[tuple[str, ...], list[str]] = {}
    for name in PUBLISHED:
        known, (family, _, last) = facts(name), name.rpartition("_")
        row = (family or last, known["image_size"], known["trained_on"], known["licence"], known["source"])
        sizes.setdefault(row, []).append(last if family else "")
    rows = []
    for (family, *rest), members in sizes.items():
        name = f"{family}_{members[0]}".rstrip("_") if len(members) == 1 else f"{family}_<size>"
        rows.append([f"`{name}`", ", ".join(members) if len(members) > 1 else "", *rest])
    return PAGE.format(models=table(["name", "sizes", "image size", "trained on", "licence", "source"], rows))
