"""The model that MLflow loads and serves. MLflow runs this file; nothing imports it.

The input has rows with ``photo``, the content of a photo's file in base64. The output has an answer for each row, as
``vpr localize --format json`` prints it; if a photo cannot be read, its answer has an ``error``. Parameters are
``min_confidence``, ``num_predictions`` and ``descriptor``, which adds each photo's descriptor of unit norm.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd

from vpr.descriptors.trained_model import Model
from vpr.serving.index import Index
from vpr.serving.localizer import AnswerOptions, Localizer


class LocalizingModel(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
    """A model and its index behind MLflow's interface."""

    def load_context(self, context: Any) -> None:
        self.lock = threading.Lock()  # decoded photos are large, so requests take turns
        model = Model(Path(context.artifacts["checkpoint"]))
        self.localizer = Localizer(model, Index.load(context.artifacts["index"]))

    def predict(self, context: Any, model_input: pd.DataFrame, params: Any = None) -> list[dict[str, Any]]:
        given = params or {}
        options = AnswerOptions(
            int(given.get("num_predictions", 5)),
            float(given.get("min_confidence", 0.0)),
            bool(given.get("descriptor", False)),
        )
        with self.lock:
            return [answer.as_dict() for answer in self.localizer.locate_encoded(model_input["photo"], options)]


mlflow.models.set_model(LocalizingModel())
