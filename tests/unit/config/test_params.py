"""params.yaml: valid and invalid values."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import get_args
from urllib.error import URLError

import pytest
import torch
import yaml

from vpr.config.errors import UserError
from vpr.config.params import SECTIONS, Params
from vpr.descriptors.params import ExportParams, ExtractParams
from vpr.localization.params import IndexParams
from vpr.retrieval.params import EvaluateParams
from vpr.serving.lance_index import LanceIndex
from vpr.sources.base import Context
from vpr.sources.catalogue import SourceParams
from vpr.sources.collection import CollectionParams
from vpr.sources.synthetic import SyntheticParams
from vpr.stages.check import SECTION_CLASSES, check_params, model_to_evaluate
from vpr.training.params import TrainParams, load_train
from vpr.verification.params import VerifyParams

ROOT = Path(__file__).parents[3]


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


CATALOGUE = ROOT / "data" / "sources.yaml"


def check(path: Path, catalogue: Path = CATALOGUE) -> None:
    check_params(Params.read(path), Context(catalogue=catalogue))


def test_the_committed_file_is_valid():
    check(ROOT / "params.yaml")


def test_an_engine_that_is_not_installed_is_refused_with_what_to_do(edited, monkeypatch):
    monkeypatch.setattr("vpr.data.ray_engine.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"extract.*ray needs the package ray, .*: run `make setup-scale`, or choose"):
        check(edited({"extract.engine": "ray"}))
    monkeypatch.setitem(sys.modules, "lancedb", None)
    with pytest.raises(UserError, match="an index in LanceDB needs the package lancedb: run `make setup-scale`"):
        LanceIndex("big")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"export.pca_dim": 64, "datasets.synthetic.images.train_places": 10},
            "export.pca_dim is 64, but 60 training images vary in at most 59 directions",
        ),
        ({"evalute": {}}, r"unknown keys \['evalute'\]; choose from \['agg', "),
        (
            {"evaluate.recal_at": [1]},
            r"evaluate has unknown keys \['recal_at'\]; choose from \['centred', 'faiss_gpu', ",
        ),
        ({"evaluate.faiss_gpu": "False"}, r"evaluate.faiss_gpu is 'False'; expected true or false"),
        ({"evaluate.recall_at": ["1"]}, r"evaluate.recall_at is \['1'\]; expected a list of whole numbers from 1"),
        ({"evaluate.faiss_gpu": ...}, r"evaluate lacks the key 'faiss_gpu'"),
        ({"train.optimizer": "adm"}, r"optimizer is 'adm'; expected one of: sgd, adam, adamw"),
        ({"datasets.synthetic.train.lr": "0.1"}, r"datasets.synthetic.train.lr is '0.1'; expected a number"),
        ({"datasets.synthetic.train.lr": 0.0}, r"datasets.synthetic.train.lr is 0.0; expected a number above 0"),
        ({"datasets.synthetic.train.places_per_batch": 2.5}, r"places_per_batch is 2.5; expected a whole number"),
        ({"train.min_images_per_place": 2}, r"min_images_per_place is 2, but a batch takes 4"),
        ({"datasets.synthetic.train.image_size": [10]}, r"image_size is \[10\]; expected \[height, width\] in pixels"),
        ({"datasets.custom.train.epoch": 3}, r"datasets.custom.train has unknown keys \['epoch'\]"),
        (
            {"dataset": "syntetic"},
            r"unknown dataset 'syntetic'; choose one of: benchmarks, custom, gardens_point, gsv_cities",
        ),
        ({"datasets.nowhere": {}}, r"datasets has unknown keys \['nowhere'\]; choose from"),
        (
            {"datasets.synthetic.images.blocks": None},
            r"datasets.synthetic.images.blocks is None; expected a whole number",
        ),
        ({"verify": 3}, r"verify is 3; expected the keys"),
        ({"datasets": None}, r"datasets is None; expected a block for each name"),
        ({"dataset": ["a"]}, r"dataset is \['a'\]; expected"),
        ({"eval_sets": "val"}, r"eval_sets is 'val'; expected a list of names"),
        ({"datasets.synthetic.train.milestones": ["x"]}, r"milestones is \['x'\]; expected a list of whole numbers"),
        ({"eval_sets": []}, r"eval_sets is \[\]; expected one or more names"),
        ({"eval_sets": ["val", "val"]}, r"each once"),
        ({"eval_sets": ["x; touch y;"]}, r"eval_sets names 'x; touch y;'; expected a letter or digit, then"),
        ({"eval_sets": ["../../etc"]}, r"eval_sets names '../../etc'"),
        ({"eval_sets": ["val\n"]}, r"eval_sets names 'val\\n'"),
        ({"train.val_set": "$(id)"}, r"val_set names '\$\(id\)'"),
        ({"evaluate.recall_at": [0]}, r"recall_at is \[0\]; expected a list of whole numbers from 1"),
        ({"evaluate.positive_radius_m": -1.0}, r"positive_radius_m is -1.0"),
        ({"extract.batch_size": 0}, r"batch_size is 0"),
        (
            {"train.devices": 3},
            r"places_per_batch is \d+, which 3 devices \(devices x num_nodes\) cannot share equally",
        ),
        ({"datasets.synthetic.train.milestones": [-1]}, r"milestones is \[-1\]"),
        ({"datasets.synthetic.train.check_val_every_n_epochs": 99}, r"no epoch would be validated"),
        (
            {"datasets.gsv_xs.images.train": ["sf_xs_val"]},
            r"train names 'sf_xs_val'; choose from the sources \['gsv_cities'",
        ),
        ({"datasets.gsv_xs.images.eval_sets.val": "gsv_xs"}, r"eval_sets names 'gsv_xs'; choose from the sources"),
        (
            {"datasets.gsv_xs.images.share_of_places": 0.0},
            r"share_of_places is 0.0; expected a number above 0 and at most 1",
        ),
        ({"datasets.gsv_xs.images.cities": ["osl", "roma"]}, r"cities names \['roma'\]; choose from \['bangkok'"),
        (
            {"datasets.gsv_xs.images.dates": [2015, 2019]},
            r"dates is \[2015, 2019\]; expected null or \[first, last\] as YYYYMM",
        ),
        (
            {"dataset": "gsv_xs", "eval_sets": ["tokyo"]},
            r"datasets.gsv_xs.images.eval_sets lacks 'tokyo', which eval_sets",
        ),
        (
            {"dataset": "gsv_xs", "datasets.gsv_xs.images.eval_sets.night": "pitts30k"},
            r"sources.yaml: pitts30k.url is null, because its owner has to be asked for it, see docs/datasets.md",
        ),
    ],
)
def test_a_wrong_key_or_value_is_refused_with_what_is_allowed(edited, changes, message):
    with pytest.raises(UserError, match=message):
        check(edited(changes))


def test_a_choice_without_a_block_is_refused_with_the_blocks(edited):
    with pytest.raises(UserError, match=r"aggregators has no block 'netvald'; choose one of: avg, boq, convap"):
        Params.read(edited({"agg": "netvald"})).choice("agg")


def test_weights_that_are_no_file_are_refused(edited):
    with pytest.raises(UserError, match=r"weights is 'imagenett'.*choose null or imagenet"):
        check(edited({"datasets.synthetic.train.weights": "imagenett"}))


def test_options_that_are_no_mapping_are_refused(edited):
    with pytest.raises(UserError, match=r"aggregators.cosplace is 3; expected its options"):
        Params.read(edited({"aggregators.cosplace": 3})).choice("agg")


def test_a_whole_number_will_do_where_a_number_is_asked_for(edited):
    assert load_train(Params.read(edited({"datasets.synthetic.train.lr": 1}))).lr == 1


@pytest.mark.parametrize("text", ["1e-05", "2E-4", "3e2", "1.5e-3"])
def test_a_number_with_an_exponent_is_a_number_as_dvc_writes_it(edited, text):
    path = edited({})
    lines = path.read_text(encoding="utf-8").replace("lr: 0.002", f"lr: {text}")
    path.write_text(lines, encoding="utf-8")
    assert f"lr: {text}" in lines
    assert load_train(Params.read(path)).lr == float(text)


def test_a_missing_file_says_where_to_run(tmp_path):
    with pytest.raises(UserError, match="project's root"):
        Params.read(tmp_path / "params.yaml")


def test_broken_yaml_is_said_to_be_so(tmp_path):
    path = tmp_path / "params.yaml"
    path.write_text("a: [1", encoding="utf-8")
    with pytest.raises(UserError, match="not valid YAML"):
        Params.read(path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"gsv_xs.layout": "gsv"}, r"gsv_xs.layout is 'gsv'; expected one of: gsv_xs, gsv_cities"),
        ({"gsv_xs.hash": "1"}, r"gsv_xs has unknown keys \['hash'\]"),
        ({"gsv_xs.sha256": "12ab"}, r"sha256 is '12ab'; expected 64 hexadecimal digits"),
        (
            {"gsv_xs.expected": {"queries": 3}},
            r"expected has unknown keys \['queries'\]; choose from",
        ),
        ({"tokyo_xs.expected": {"queries": [3]}}, r"expected.queries is \[3\]; expected a number, or \[least"),
        ({"gsv_xs.expected": {"cities": []}}, r"expected.cities is \[\]; expected a number, or \[least"),
        ({"nordland.frame_window": -1}, r"frame_window is -1; expected a whole number from 0 to 1,000,000 or null"),
    ],
)
def test_a_wrong_key_or_value_of_the_catalogue_is_refused(tmp_path, changes, message):
    content = yaml.safe_load(CATALOGUE.read_text(encoding="utf-8"))
    for dotted, value in changes.items():
        name, key = dotted.split(".")
        content[name][key] = value
    (tmp_path / "sources.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    with pytest.raises(UserError, match=message):
        check(ROOT / "params.yaml", tmp_path / "sources.yaml")


def test_a_key_stands_in_one_place_only(edited):
    with pytest.raises(UserError, match=r"seed is in train and in datasets.synthetic.train; keep it in train if"):
        load_train(Params.read(edited({"datasets.synthetic.train.seed": 3})))
    with pytest.raises(UserError, match=r"neither train nor datasets.synthetic.train has the key 'seed'"):
        load_train(Params.read(edited({"train.seed": ...})))
    with pytest.raises(UserError, match=r"train has unknown keys \['sed'\]; choose from"):
        load_train(Params.read(edited({"train.sed": 3})))
    moved = edited({"train.seed": ..., "datasets.synthetic.train.seed": 3})
    assert load_train(Params.read(moved)).seed == 3


def test_an_error_names_the_place_of_the_key(edited):
    with pytest.raises(
        UserError, match=r"params.yaml: train.seed is -1; expected a whole number from 0 to 4,294,967,295"
    ):
        load_train(Params.read(edited({"train.seed": -1})))
    with pytest.raises(UserError, match=r"params.yaml: datasets.synthetic.train.lr is 'x'; expected a number"):
        load_train(Params.read(edited({"datasets.synthetic.train.lr": "x"})))
    with pytest.raises(UserError, match=r"params.yaml: train.monitor is 'recall_at_2'; expected one of: recall_at_1"):
        load_train(Params.read(edited({"train.monitor": "recall_at_2"})))


def test_every_section_is_checked_by_the_check_stage():
    assert {section.key for section in SECTION_CLASSES} | {"train"} == set(SECTIONS)


def test_a_dataset_without_training_settings_can_only_be_evaluated(edited, tmp_path):
    chosen = {"dataset": "gardens_point", "eval_sets": ["day"]}
    with pytest.raises(UserError, match=r"gardens_point is only evaluated; set train\.checkpoint"):
        check(edited(chosen))
    checkpoint = tmp_path / "model.ckpt"
    checkpoint.touch()
    check(edited({**chosen, "train.checkpoint": str(checkpoint)}))


PARAMETER_CLASSES = [
    TrainParams, ExportParams, ExtractParams, EvaluateParams, IndexParams, VerifyParams, SyntheticParams,
    CollectionParams, SourceParams,
]  # fmt: skip


def numbers(annotation, metadata=()) -> list[tuple]:
    """The limits of each kind of number that an annotation allows."""
    if hasattr(annotation, "__metadata__"):
        return numbers(annotation.__origin__, (*metadata, *annotation.__metadata__))
    if annotation in (int, float):
        return [metadata]
    return [found for part in get_args(annotation) for found in numbers(part, () if get_args(part) else metadata)]


@pytest.mark.parametrize("options", PARAMETER_CLASSES)
def test_every_number_has_a_least_and_a_most(options):
    for name, field in options.model_fields.items():
        if name == "expected":  # counts that are compared and never allocated
            continue
        for limits in numbers(field.annotation, tuple(field.metadata)):
            limits = [limit for part in limits for limit in getattr(part, "metadata", [part])]
            known = {
                key for limit in limits for key in ("ge", "gt", "le", "lt") if getattr(limit, key, None) is not None
            }
            assert known & {"ge", "gt"}, name
            assert known & {"le", "lt"}, name


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"agg": "mixvpr", "aggregators.mixvpr.mix_depth": 10**9}, "mix_depth is out of range"),
        ({"agg": "mixvpr", "aggregators.mixvpr.mix_depth": 5000}, "mix_depth at most 100"),
        ({"agg": "cosplace", "aggregators.cosplace.descriptor_dim": 10**9}, "descriptor_dim is out of range"),
        ({"agg": "boq", "aggregators.boq.proj_channels": 99968}, "does not fit in memory"),
        ({"train.memory_size": 10**9}, "memory_size is 1000000000; expected a whole number from 0 to 10,000,000"),
        ({"train.memory_size": 10**7, "train.max_memory_gb": 1.0}, "10,000,000 remembered descriptors"),
        ({"train.momentum": -1}, "momentum is -1; expected a number of at least 0 and below 1"),
        ({"train.seed": 2**32}, "seed is 4294967296; expected a whole number from 0 to 4,294,967,295"),
        ({"train.val_set": "nope"}, "dataset synthetic has no evaluation set 'nope'"),
    ],
)  # fmt: skip
def test_what_no_machine_can_do_is_refused_before_anything_is_fetched(edited, changes, message):
    path = edited({"loss": "ContrastiveLoss", "miner": "none", **changes})

    def all_of_the_stage() -> None:
        check(path)
        model_to_evaluate(Params.read(path))

    with pytest.raises(UserError, match=message):
        all_of_the_stage()


def test_weights_that_can_not_be_fetched_are_refused_by_the_check(edited, monkeypatch, tmp_path):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", lambda *_, **__: (_ for _ in ()).throw(URLError("offline")))
    path = edited({"datasets.synthetic.train.weights": "imagenet"})
    with pytest.raises(UserError, match=r"could not get the ImageNet weights of resnet18: .*or set weights to null"):
        model_to_evaluate(Params.read(path))


@pytest.mark.parametrize(
    "text",
    ["a: " + "[" * 100_000, "a: " + "- " * 5000, "a: !!timestamp x", "a: 2020-13-45", "[a]: 1", "a: {0: 1}", "no: 1"],
)
def test_yaml_that_is_nested_without_end_or_makes_no_sense_is_refused(tmp_path, text):
    (tmp_path / "params.yaml").write_text(text)
    with pytest.raises(UserError, match=r"params\.yaml: not valid YAML"):
        Params.read(tmp_path / "params.yaml")
