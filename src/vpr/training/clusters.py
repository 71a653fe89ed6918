"""Initialise the clusters of an aggregator from local features of the training images.

As in the deep visual geo-localization benchmark (Berton et al., CVPR 2022, https://arxiv.org/abs/2204.03444), k-means
runs on the features at 100 random positions in each of 500 images. FAISS computes it.
"""

from __future__ import annotations

import faiss
import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from vpr.config.errors import UserError
from vpr.config.progress import progress
from vpr.data.loading import ImageList
from vpr.model.vpr_model import VPRModel

NUM_IMAGES, PER_IMAGE, ITERATIONS = 500, 100, 100


def initialise_clusters(model: VPRModel, images: ImageList, device: torch.device, seed: int) -> None:
    """Set the clusters of the model's aggregator in place, if it has clusters.

    Args:
        model: The model.
        images: Training images.
        device: Device to compute local features on.
        seed: Random seed for the images, the positions and k-means.

    Raises:
        UserError: if there are fewer local features than clusters.
    """
    aggregator = model.aggregator
    num_clusters = aggregator.num_clusters_to_initialise
    if num_clusters == 0:
        return
    rng = np.random.default_rng([seed, 20])
    chosen = rng.choice(len(images), min(NUM_IMAGES, len(images)), replace=False)
    found = []
    with progress(len(chosen), "clusters", "images") as bar:
        for k in chosen:
            found.append(_positions(model, images[int(k)], device, rng))
            bar.update()
    local = torch.cat(found)
    if len(local) < num_clusters:
        raise UserError(f"{len(local)} local features of {len(chosen)} images are too few for {num_clusters} clusters")
    kmeans = faiss.Kmeans(local.shape[1], num_clusters, niter=ITERATIONS, seed=seed, min_points_per_centroid=1)
    kmeans.train(local.numpy())
    aggregator.initialise(torch.from_numpy(kmeans.centroids).to(local.dtype), local)


@torch.inference_mode()
def _positions(model: VPRModel, image: Tensor, device: torch.device, rng: np.random.Generator) -> Tensor:
    """Return local features ``(PER_IMAGE or fewer, C)`` of unit norm at random positions of an image."""
    training = model.training
    model.to(device).eval()
    features = model.backbone(model.normalised(image[None].to(device)))[0].flatten(1).T.float().cpu()
    model.train(training)
    picked = rng.choice(len(features), min(PER_IMAGE, len(features)), replace=False)
    return normalize(features[torch.from_numpy(picked)], dim=1)
