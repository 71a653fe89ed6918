"""The model after training: PCA, another image size, and what each refuses."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vpr.config.errors import UserError
from vpr.model.checkpoint import load_checkpoint, save_checkpoint
from vpr.model.projection import fit_projection
from vpr.model.spec import ModelSpec
from vpr.model.vpr_model import VPRModel, at_image_size


def cloud(number: int, dim: int, seed: int = 0) -> np.ndarray:
    """Unit vectors that vary more in some directions than in others."""
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(number, dim)) * np.linspace(2, 0.1, dim) + 0.5
    mixed = points @ np.linalg.qr(rng.normal(size=(dim, dim)))[0]
    return (mixed / np.linalg.norm(mixed, axis=1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize("whiten", [False, True])
def test_a_projection_is_that_of_the_eigenvectors_of_the_covariance(whiten):
    descriptors = cloud(300, 8).astype(np.float64)
    values, vectors = np.linalg.eigh(np.cov(descriptors.T))
    basis = vectors[:, ::-1][:, :3] / (np.sqrt(values[::-1][:3]) if whiten else 1)
    expected = (descriptors - descriptors.mean(0)) @ basis
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    projection = fit_projection(descriptors.astype(np.float32), 3, whiten)
    found = projection(torch.from_numpy(descriptors)).numpy()
    signs = np.sign((found * expected).sum(0))  # an eigenvector's sign is free
    assert found * signs == pytest.approx(expected, abs=1e-4)
    if whiten:
        with torch.inference_mode():
            plain = (torch.from_numpy(descriptors).float() - projection.mean) @ projection.components.T
        assert np.cov(plain.numpy().T) == pytest.approx(np.eye(3), abs=1e-3)


@given(st.integers(0, 20))
def test_pca_to_all_dimensions_keeps_the_distances_between_centred_descriptors(seed):
    descriptors = cloud(40, 6, seed)
    projection = fit_projection(descriptors, 6, whiten=False)
    centred = torch.nn.functional.normalize(torch.from_numpy(descriptors) - projection.mean, dim=1)
    found = projection(torch.from_numpy(descriptors))
    assert torch.allclose(torch.cdist(centred, centred), torch.cdist(found, found), atol=2e-3)


@pytest.mark.parametrize("number", [1060, 150])
def test_large_projections_are_exact(number):
    """Above 1,000 dimensions too, with more descriptors than dimensions and with fewer."""
    descriptors = cloud(number, 1040)
    projection = fit_projection(descriptors, 100, whiten=True)
    centred = descriptors.astype(np.float64) - descriptors.astype(np.float64).mean(0)
    variances, directions = np.linalg.eigh(centred.T @ centred / (number - 1))
    basis = directions[:, -100:] / np.sqrt(variances[-100:])
    expected = centred @ basis
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    found = projection(torch.from_numpy(descriptors)).numpy()
    assert found @ found.T == pytest.approx(expected @ expected.T, abs=1e-3)


def test_too_many_directions_are_refused():
    with pytest.raises(UserError, match="pca_dim is 7, but 5 descriptors of 8 dimensions vary in at most 4 directions"):
        fit_projection(cloud(5, 8), 7, True)
    flat = cloud(50, 8)
    flat[:, 4:] = 0
    with pytest.raises(UserError, match="pca_dim is 6, but the training descriptors vary in 4 directions only"):
        fit_projection(flat, 6, True)


def model(aggregator: str, **options) -> VPRModel:
    torch.manual_seed(0)
    return VPRModel(ModelSpec("resnet18", {"layers_to_crop": [3, 4]}, aggregator, options, image_size=(32, 48))).eval()


def test_a_model_runs_at_another_image_size_unless_its_weights_are_for_one():
    gem = model("gem")
    resized = at_image_size(gem, (48, 64), "export.image_size")
    images = torch.rand(2, 3, 48, 64)
    with torch.inference_mode():
        assert torch.equal(resized(images), gem(images))
    assert resized.spec.image_size == (48, 64)
    printed = (
        r"export.image_size is 48 x 64 and the model was trained at 32 x 48: mixvpr was trained for a feature map of "
    )
    with pytest.raises(UserError, match=printed + r"\(4, 6\) and cannot take one of \(6, 8\)"):
        at_image_size(model("mixvpr", mix_depth=1), (48, 64), "export.image_size")
    with pytest.raises(UserError, match=r"of \(4, 6\) and cannot take one of \(6, 4\)"):
        at_image_size(
            model("mixvpr", mix_depth=1), (48, 32), "export.image_size"
        )  # the same number of positions, another shape
    with pytest.raises(UserError, match=r"trained at 32 x 48: aggregator salad: num_clusters is 23.* 1 positions"):
        at_image_size(model("salad", num_clusters=23), (8, 8), "export.image_size")


def test_a_projected_model_is_saved_with_its_projection(tmp_path):
    from dataclasses import replace

    trained = model("gem")
    images = torch.rand(30, 3, 32, 48)
    with torch.inference_mode():
        descriptors = trained(images)
    projection = fit_projection(descriptors.numpy(), 5, True)
    spec = replace(trained.spec, pca_dim=5)
    state = trained.state_dict() | {f"projection.{k}": v for k, v in projection.state_dict().items()}
    save_checkpoint(tmp_path / "m.ckpt", spec, state, {})
    again, _ = load_checkpoint(tmp_path / "m.ckpt")
    assert again.descriptor_dim == 5
    with torch.inference_mode():
        assert torch.allclose(again(images), projection(descriptors), atol=1e-6)
        assert torch.allclose(again(images).norm(dim=1), torch.ones(30), atol=1e-5)
