"""The model as MLflow loads and serves it: photos in, positions out. MLflow runs this file; nothing imports it.

Input: rows with ``photo``, the file's content in base64. Output: for each the answer of ``vpr localize --json``. A
photo that can't be read has an ``error`` in its answer. Parameters: ``min_confidence``, ``num_predictions`` and
``descriptor`` (true adds each photo's descriptor, of unit L2 norm).
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd

from vpr.localization.index import load_index
from vpr.localization.localizer import Localizer, locate_encoded
from vpr.model.device import pick_device


class LocalizingModel(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
    """A checkpoint and its index behind MLflow's interface."""

    def load_context(self, context: Any) -> None:
        self.one_at_a_time = threading.Lock()  # decoded photos are large
        index = load_index(Path(context.artifacts["index"]))
        self.localizer = Localizer.open(Path(context.artifacts["checkpoint"]), index, pick_device("auto"))

    def predict(self, context: Any, model_input: pd.DataFrame, params: Any = None) -> list[dict[str, Any]]:
        options = params or {}
        with self.one_at_a_time:
            return locate_encoded(
                self.localizer,
                model_input["photo"],
                int(options.get("num_predictions", 5)),
                float(options.get("min_confidence", 0.0)),
                bool(options.get("descriptor", False)),
            )


mlflow.models.set_model(LocalizingModel())
