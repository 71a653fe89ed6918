"""Open MLflow's pages on a table of runs: ``make ui``.

The table has recalls and components as columns, with the best run first. MLflow stores such a view in tags of the
experiment.
"""

from __future__ import annotations

import argparse
import json
import os
from typing import Any

from vpr.config.params import COMPONENTS, Params
from vpr.experiments.store import EXPERIMENT, connect, tracking_uri
from vpr.localization.params import index_set

VIEW = "recalls"
DESCRIPTION = """Each run is one trained model, named after its DVC experiment if there is one.

- **Metrics** `<set>/recall_at_<N>`: share of the queries of a set with a positive among the N nearest. The number of
  queries, the radius and the descriptor's size are metrics too. `training/...` is the training curve.
- **Parameters**: `agg.name`, `loss.name`, `miner.name`, `backbone.name`, each with its options, and `train.*`.
- **Artifacts**: report, predictions and checkpoint. The logged model locates photos.

`vpr compare RUN RUN` tests whether two runs differ by more than chance.
"""


def view_state(eval_sets: list[str], first: str) -> dict[str, Any]:
    """Return columns and order of the table of runs.

    Args:
        eval_sets: Evaluation sets.
        first: Set whose recall@1 orders the runs.
    """
    recalls = [f"metrics.`{name}/recall_at_{n}`" for name in eval_sets for n in (1, 5)]
    components = [f"params.`{name}.name`" for name in COMPONENTS]
    return {
        "orderByKey": f"metrics.`{first}/recall_at_1`",
        "orderByAsc": False,
        "selectedColumns": ["attributes.`Created`", *components, *recalls],
    }


def prepare(port: int) -> str:
    """Set the tags, and return the address of the table."""
    mlflow = connect()
    experiment = mlflow.get_experiment_by_name(EXPERIMENT)
    params = Params.read()
    eval_sets, first = params.eval_sets, index_set(params)
    tags = {
        "mlflow.experimentKind": "custom_model_development",
        "mlflow.note.content": DESCRIPTION,
        "mlflow.experiment.primaryMetric.name": f"{first}/recall_at_1",
        "mlflow.experiment.primaryMetric.greaterIsBetter": "True",
        f"mlflow.sharedViewState.{VIEW}": json.dumps(view_state(eval_sets, first)),
    }
    for key, value in tags.items():
        if experiment.tags.get(key) != value:
            mlflow.tracking.MlflowClient().set_experiment_tag(experiment.experiment_id, key, value)
    query = f"viewStateShareKey={VIEW}&workflowType=machine_learning"
    return f"http://127.0.0.1:{port}/#/experiments/{experiment.experiment_id}/runs?{query}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=5000)
    args = parser.parse_args()
    print(f"runs, the best first: {prepare(args.port)}\nstop with Ctrl-C", flush=True)
    command = ["mlflow", "ui", "--workers", "1", "--host", "127.0.0.1", "--port", str(args.port)]
    env = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    os.execvpe("mlflow", [*command, "--backend-store-uri", tracking_uri()], env)


if __name__ == "__main__":
    main()
