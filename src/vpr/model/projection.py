"""PCA of descriptors, with or without whitening, as the last layer of a model.

Jégou and Chum, "Negative evidences and co-occurences in image retrieval: the benefit of PCA and whitening",
ECCV 2012. Fitted by scikit-learn.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import normalize

from vpr.config.errors import UserError


class Projection(nn.Module):
    """Centres descriptors ``(B, in_dim)``, projects them to ``(B, out_dim)``, and restores their unit L2 norm."""

    mean: Tensor
    components: Tensor

    def __init__(self, in_dim: int, out_dim: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(in_dim))
        self.register_buffer("components", torch.zeros(out_dim, in_dim))

    def forward(self, descriptors: Tensor) -> Tensor:
        with torch.autocast(descriptors.device.type, enabled=False):
            return normalize((descriptors.float() - self.mean) @ self.components.T, dim=1)


def fit_projection(descriptors: NDArray[np.float32], dim: int, whiten: bool) -> Projection:
    """Fit the projection onto the ``dim`` directions in which the descriptors vary most.

    Args:
        descriptors: Descriptors ``(number, D)``.
        dim: Number of directions.
        whiten: Divide by the standard deviation in each direction, so that all directions count equally.

    Raises:
        UserError: if there are too few descriptors, or dimensions, for ``dim`` directions.
    """
    number, in_dim = descriptors.shape
    most = min(number - 1, in_dim)
    if dim > most:
        raise UserError(
            f"pca_dim is {dim}, but {number} descriptors of {in_dim} dimensions vary in at most {most} directions; "
            "lower it"
        )
    from sklearn.decomposition import PCA  # using a model does not need it

    # Both solvers are exact; scikit-learn's default for large matrices is approximate.
    solver = "covariance_eigh" if in_dim <= number else "full"
    pca = PCA(dim, svd_solver=solver).fit(descriptors.astype(np.float64))
    if pca.explained_variance_[-1] <= 1e-12 * pca.explained_variance_[0]:
        varying = int((pca.explained_variance_ > 1e-12 * pca.explained_variance_[0]).sum())
        raise UserError(f"pca_dim is {dim}, but the training descriptors vary in {varying} directions only; lower it")
    scale = pca.explained_variance_[:, None] ** -0.5 if whiten else 1.0
    projection = Projection(in_dim, dim)
    projection.mean = torch.from_numpy(pca.mean_).float()
    projection.components = torch.from_numpy(pca.components_ * scale).float()
    return projection
