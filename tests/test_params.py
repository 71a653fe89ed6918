"""params.yaml: what is refused, and how it is said."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from vpr import params

ROOT = Path(__file__).parents[1]


@pytest.fixture
def edited(tmp_path):
    """Write the project's params.yaml with some values changed; keys are dotted paths."""

    def write(changes: dict) -> Path:
        content = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
        for dotted, value in changes.items():
            *parents, last = dotted.split(".")
            part = content
            for key in parents:
                part = part[key]
            if value is ...:
                del part[last]
            else:
                part[last] = value
        path = tmp_path / "params.yaml"
        path.write_text(yaml.safe_dump(content), encoding="utf-8")
        return path

    return write


def test_the_committed_file_is_valid():
    params.check_all(ROOT / "params.yaml")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"evalute": {}}, r"unknown keys \['evalute'\]; choose from \['agg', "),
        ({"evaluate.recal_at": [1]}, r"evaluate has unknown keys \['recal_at'\]; choose from \['faiss_gpu', "),
        ({"evaluate.faiss_gpu": "False"}, r"evaluate.faiss_gpu is 'False'; expected true or false"),
        ({"evaluate.recall_at": ["1"]}, r"evaluate.recall_at.* is '1'"),
        ({"evaluate.faiss_gpu": ...}, r"evaluate lacks the key 'faiss_gpu'"),
        ({"train.synthetic.optimizer": "adm"}, r"optimizer is 'adm'; expected one of: sgd, adam, adamw"),
        ({"train.synthetic.lr": "0.1"}, r"train.synthetic.lr is '0.1'; expected a number"),
        ({"train.synthetic.lr": 0.0}, r"train.synthetic.lr is 0.0; expected a number above 0"),
        ({"train.synthetic.places_per_batch": 2.5}, r"places_per_batch is 2.5; expected a whole number"),
        ({"train.synthetic.min_images_per_place": 2}, r"min_images_per_place is 2, but a batch takes 4"),
        ({"train.synthetic.image_size": [10]}, r"image_size is \[10\]; expected \[height, width\] in pixels"),
        ({"train.custom.epoch": 3}, r"train.custom has unknown keys \['epoch'\]"),
        ({"dataset": "syntetic"}, r"unknown dataset 'syntetic'; choose one of: custom, gsv_cities, gsv_xs, synthetic"),
        ({"train.nowhere": {}}, r"train has unknown keys \['nowhere'\]; choose from"),
        ({"datasets.synthetic.blocks": None}, r"datasets.synthetic.blocks is None; expected a whole number"),
        ({"verify": 3}, r"verify is 3; expected the keys"),
        ({"datasets": None}, r"datasets is None; expected a block for each name"),
        ({"dataset": ["a"]}, r"dataset is \['a'\]; expected"),
        ({"eval_sets": "val"}, r"eval_sets is 'val'; expected a list of names"),
        ({"train.synthetic.milestones": ["x"]}, r"milestones.* is 'x'; expected a list of whole numbers"),
        ({"eval_sets": []}, r"eval_sets is \[\]; expected one or more names"),
        ({"eval_sets": ["val", "val"]}, r"each once"),
        ({"evaluate.recall_at": [0]}, r"recall_at is \[0\]; expected whole numbers from 1"),
        ({"evaluate.positive_radius_m": -1.0}, r"positive_radius_m is -1.0"),
        ({"extract.batch_size": 0}, r"batch_size is 0"),
        ({"train.synthetic.devices": 3}, r"devices is 3; training runs on one device"),
        ({"train.synthetic.milestones": [-1]}, r"milestones is \[-1\]"),
        ({"train.synthetic.check_val_every_n_epochs": 99}, r"no epoch would be validated"),
        ({"sources.gsv_xs.layout": "gsv"}, r"sources.gsv_xs.layout is 'gsv'; expected one of: gsv_xs, gsv_cities"),
        ({"sources.gsv_xs.hash": "1"}, r"sources.gsv_xs has unknown keys \['hash'\]"),
        ({"sources.gsv_xs.sha256": "12ab"}, r"sha256 is '12ab'; expected 64 hexadecimal digits"),
        (
            {"sources.gsv_xs.expected": {"queries": 3}},
            r"expected has unknown keys \['queries'\]; choose from",
        ),
        ({"sources.tokyo_xs.expected": {"queries": [3]}}, r"expected.queries is \[3\]; expected a number, or \[least"),
        ({"sources.gsv_xs.expected": {"cities": []}}, r"expected.cities is \[\]; expected a number, or \[least"),
        ({"sources.nordland.frame_window": -1}, r"frame_window is -1; expected frames from 0"),
        ({"datasets.gsv_xs.train": ["sf_xs_val"]}, r"train names 'sf_xs_val'; choose from the sources \['gsv_cities'"),
        ({"datasets.gsv_xs.eval_sets.val": "gsv_xs"}, r"eval_sets names 'gsv_xs'; choose from the sources"),
        ({"datasets.gsv_xs.share_of_places": 0.0}, r"share_of_places is 0.0; expected a number in \(0, 1\]"),
        ({"datasets.gsv_xs.cities": ["osl", "roma"]}, r"cities names \['roma'\]; choose from \['bangkok'"),
        ({"datasets.gsv_xs.dates": [2015, 2019]}, r"dates is \[2015, 2019\]; expected \[first, last\] as YYYYMM"),
        ({"dataset": "gsv_xs", "eval_sets": ["tokyo"]}, r"datasets.gsv_xs.eval_sets has no 'tokyo', which eval_sets"),
        (
            {"dataset": "gsv_xs", "datasets.gsv_xs.eval_sets.night": "pitts30k"},
            r"sources.pitts30k.url is null: its owner has to be asked for it, see docs/datasets.md",
        ),
    ],
)
def test_a_wrong_key_or_value_is_refused_with_what_is_allowed(edited, changes, message):
    with pytest.raises(ValueError, match=message):
        params.check_all(edited(changes))


def test_a_choice_without_a_block_is_refused_with_the_blocks(edited):
    with pytest.raises(ValueError, match=r"aggregators has no block 'netvald'; choose one of: avg, boq, convap"):
        params.load_choice("agg", edited({"agg": "netvald"}))


def test_weights_that_are_no_file_are_refused(edited):
    with pytest.raises(FileNotFoundError, match=r"weights is 'imagenett'.*choose null or imagenet"):
        params.check_all(edited({"train.synthetic.weights": "imagenett"}))


def test_options_that_are_no_mapping_are_refused(edited):
    with pytest.raises(ValueError, match=r"aggregators.cosplace is 3; expected its options"):
        params.load_choice("agg", edited({"aggregators.cosplace": 3}))


def test_a_whole_number_will_do_where_a_number_is_asked_for(edited):
    assert params.load_train(edited({"train.synthetic.lr": 1})).lr == 1


@pytest.mark.parametrize("text", ["1e-05", "2E-4", "3e2", "1.5e-3"])
def test_a_number_with_an_exponent_is_a_number_as_dvc_writes_it(edited, text):
    path = edited({})
    lines = path.read_text(encoding="utf-8").replace("lr: 0.002", f"lr: {text}")
    path.write_text(lines, encoding="utf-8")
    assert f"lr: {text}" in lines
    assert params.load_train(path).lr == float(text)


def test_a_missing_file_says_where_to_run(tmp_path):
    with pytest.raises(FileNotFoundError, match="project's root"):
        params.read_params(tmp_path / "params.yaml")


def test_broken_yaml_is_said_to_be_so(tmp_path):
    path = tmp_path / "params.yaml"
    path.write_text("a: [1", encoding="utf-8")
    with pytest.raises(ValueError, match="not valid YAML"):
        params.read_params(path)
