"""Several processes train as one does with the whole batch."""

from __future__ import annotations

from ranks_training import configuration_of, greatest_difference, trained_by
from vpr.training.build import build_model

CASES = ("pairs", "nothing")  # tests/scale has them all


def test_two_processes_move_the_weights_as_one_does_with_the_whole_batch(city, tmp_path):
    alone, together = trained_by(1, city, tmp_path, CASES), trained_by(2, city, tmp_path, CASES)
    for case in CASES:
        assert greatest_difference(alone[case], together[case]) <= 1e-5, case
        begun = build_model(configuration_of(case, 1), None).state_dict()
        moved = max(float((alone[case][k] - v).abs().max()) for k, v in begun.items() if k.endswith(".weight"))
        assert moved == 0 if case == "nothing" else moved > 1e-4, "or equality would say little"
