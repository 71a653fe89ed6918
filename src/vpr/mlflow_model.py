"""The model as MLflow loads it: photos in, descriptors out. MLflow runs this file, nothing imports it.

Input: an image batch ``(B, H, W, 3)``, 8-bit RGB, of any size. Output: ``(B, descriptor_dim)`` float32,
rows of unit L2 norm.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import torch
from PIL import Image

from vpr.datasets.images import Preprocess
from vpr.model import load_checkpoint


class DescriptorModel(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
    """A checkpoint behind MLflow's interface."""

    def load_context(self, context: Any) -> None:
        self.model, _ = load_checkpoint(Path(context.artifacts["checkpoint"]))
        spec = self.model.spec
        self.preprocess = Preprocess(spec.image_size, spec.mean, spec.std)

    def predict(self, context: Any, model_input: np.ndarray, params: Any = None) -> np.ndarray:
        images = torch.stack([self.preprocess(Image.fromarray(image)) for image in np.asarray(model_input)])
        with torch.inference_mode():
            return self.model(images).numpy()


mlflow.models.set_model(DescriptorModel())
