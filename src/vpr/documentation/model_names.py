"""docs/published-weights.md: the models that can be had by name."""

from __future__ import annotations

from vpr.api.names import facts, published_recalls
from vpr.api.published import PUBLISHED
from vpr.documentation.components import table

PAGE = """# Models by name

Written by `make docs` from `src/vpr/api/published.py` and `published.csv`.

```python
import vpr

model = vpr.load("megaloc")
descriptors = model.describe(["one.jpg", "another.jpg"])
```

```bash
vpr models                         # what there is, your own registry and runs included
vpr models info megaloc            # licence, size, training data, published recalls
vpr models pull megaloc            # fetches the weights, once for all projects
dvc exp run -S dataset=gsv_xs -S train.checkpoint=$(vpr models pull cosplace_resnet50_512)   # evaluates them
```

Weights are fetched by the project's own downloader into `$VPR_HOME`, by default `~/.cache/vpr`: an interrupted download
goes on, and the hash of the first one is kept and compared, as the authors publish none. Where an address is dead,
fetch the file by hand and name it: `vpr models pull NAME --mirror file:///path/to/it`. Addresses `gdrive://` need
`gdown`.

`vpr import NAME FILE` writes a checkpoint of a file without fetching. Either refuses a file that is incomplete or of
another model, and reads it with `weights_only=True`: nothing in it is run. *ConvAP, MixVPR, CosPlace and EigenPlaces,
and the aggregators of SALAD, CliqueMining and MegaLoc, are held against their authors' definitions, written anew for
the tests, with random weights; of DINOv2 and BoQ the mapping of names and shapes is. The published files themselves
could not be fetched here.*

Other names that `vpr.load` takes: `models:/vpr@champion` and `runs:/<id>` of MLflow, `hf://owner/name` of the
[Hugging Face Hub](library.md#the-hugging-face-hub), and a checkpoint's path. The same models come from
[torch.hub](library.md#torchhub).

{models}

Published recalls are those that the source gives; [published recalls, and ours](reproduction.md) has them with R@5 and
what we measured. Every image is resized to the size given, bilinearly with antialiasing; the authors of CosPlace and
EigenPlaces evaluate images in the size they have, those of BoQ and of the 4096 of ConvAP resize bicubically, so the
last digit can differ.

DVC sees the name of a file in `weights` or `checkpoint`, not its content: give a new file a new name.

# What backbones have in common

Names, options, sizes: [components](components.md). Every backbone has a part before its stages and four stages, so
`layers_to_crop` and `layers_to_freeze` mean the same for all: stage 1 ends at stride 4 and each further one at twice
that (VGG-16, whose last pooling is left out as usual: 4, 8, 16, 16). In DINOv2 and timm's plain transformers a stage is
a quarter of the blocks. Frozen parts stay in evaluation mode. `weights` is `null`, `imagenet` (for DINOv2 and timm
their published weights) or a file: a state dict, our checkpoint, or another project's checkpoint with the network
inside it; what cropping leaves out need not be in it. DINOv2 takes image sizes that are multiples of 14, resizes its
position embeddings as its authors do, and hands its class token to `salad`; the other backbones give salad the mean of
their features. `backbones.dinov2_vitb14.trained_blocks: 4` trains the last four blocks alone, with `layers_to_freeze:
null`.
"""


def page() -> str:
    """The page's text."""
    rows = []
    for name in PUBLISHED:
        known = facts(name)
        recalls = ", ".join(
            f"{row['set']} {row['recall_at_1']}" for row in published_recalls(name) if row["recall_at_1"]
        )
        rows.append(
            [
                f"`{name}`", str(known["descriptor_dim"]), known["image_size"], known["trained_on"], known["licence"],
                recalls, known["source"],
            ]
        )  # fmt: skip
    titles = ["name", "descriptor", "image", "trained on", "licence", "published recall@1", "source"]
    return PAGE.format(models=table(titles, rows))
