"""Clusters from the training images."""

from __future__ import annotations

import numpy as np
import torch

from vpr.data.loading import ImageList
from vpr.data.preprocess import Preprocess
from vpr.model.spec import ModelSpec
from vpr.model.vpr_model import VPRModel
from vpr.training.clusters import initialise_clusters

SPEC = ModelSpec("resnet18", {"layers_to_crop": [3, 4]}, "netvlad", {"num_clusters": 5}, image_size=(32, 48))


def images_of(city) -> ImageList:
    return ImageList(city.folder, city.train()["image"], Preprocess([32, 48]))


def test_netvlad_starts_from_clusters_of_the_training_images_and_the_seed_decides(city):
    states = []
    for seed in (1, 1, 2):
        torch.manual_seed(0)
        model = VPRModel(SPEC)
        before = model.aggregator.centres.clone()
        initialise_clusters(model, images_of(city), torch.device("cpu"), seed)
        assert model.training
        assert not torch.equal(model.aggregator.centres, before)
        states.append(model.aggregator.state_dict())
    assert all(torch.equal(states[0][k], states[1][k]) for k in states[0])
    assert not torch.equal(states[0]["centres"], states[2]["centres"])
    # Centres lie among the unit features: nearer to them than random directions are.
    with torch.inference_mode():
        features = model.eval().backbone(model.normalised(torch.stack([images_of(city)[k] for k in range(4)])))
    local = torch.nn.functional.normalize(features, dim=1).permute(0, 2, 3, 1).reshape(-1, 128)
    nearest = torch.cdist(local, states[2]["centres"]).min(dim=1).values.mean()
    random = torch.cdist(local, torch.nn.functional.normalize(torch.randn(5, 128), dim=1)).min(dim=1).values.mean()
    assert nearest < 0.7 * random


def test_other_aggregators_are_left_alone(city):
    model = VPRModel(ModelSpec("resnet18", {"layers_to_crop": [3, 4]}, "gem", {}, image_size=(32, 48)))
    before = {k: v.clone() for k, v in model.state_dict().items()}
    initialise_clusters(model, images_of(city), torch.device("cpu"), 1)
    assert all(np.array_equal(before[k], v) for k, v in model.state_dict().items())
