"""The training loop on the tiny city: schedule, resuming, determinism, what is kept."""

from __future__ import annotations

import signal
from pathlib import Path

import numpy as np
import pytest
import torch

from vpr.config.errors import UserError
from vpr.config.params import Params
from vpr.data.loading import ImageList, image_loader
from vpr.data.manifest import DATABASE, QUERY, Manifest
from vpr.data.preprocess import Preprocess
from vpr.model.checkpoint import load_checkpoint
from vpr.model.describing import Describer
from vpr.model.spec import ModelSpec
from vpr.model.vpr_model import VPRModel
from vpr.retrieval.positives import positives_of
from vpr.retrieval.recall import recall_at
from vpr.retrieval.search import search
from vpr.training.batches import PlaceSampler
from vpr.training.build import build_model
from vpr.training.configuration import load_configuration
from vpr.training.criterion import Criterion
from vpr.training.loop import Trained, Validation, fit, lr_factor, precision_of
from vpr.training.params import TrainParams, merge_train
from vpr.training.places import PlaceImages, Places
from vpr.training.run import use_untrained

SPEC = ModelSpec("resnet18", {"layers_to_crop": [2, 3, 4]}, "avg", {}, image_size=(24, 32))


def changed(settings: TrainParams, **values) -> TrainParams:
    """The settings with some values changed, checked again."""
    return TrainParams(**{**settings.model_dump(), **values})


@pytest.fixture
def settings() -> TrainParams:
    """The project's settings for the city, made tiny."""
    return changed(
        merge_train(Params.read(Path(__file__).parents[3] / "params.yaml"), "synthetic"),
        image_size=[24, 32],
        places_per_batch=3,
        images_per_place=2,
        min_images_per_place=3,
        warmup_steps=2,
        milestones=[2],
        max_epochs=3,
        check_val_every_n_epochs=1,
        num_workers=0,
        accelerator="cpu",
    )


def run(
    city: Manifest,
    settings: TrainParams,
    scratch: Path,
    report=lambda values, step: None,
    miner="none",
    asked: list[int] | None = None,
    miner_options: dict | None = None,
) -> Trained:
    torch.manual_seed(settings.seed)
    model = VPRModel(SPEC)
    places = Places(city.train(), settings.min_images_per_place)
    preprocess = Preprocess(SPEC.image_size)

    def describe(rows):
        if asked is not None:
            asked.append(rows)
        images = ImageList(city.folder, places.images[rows], preprocess)
        out = np.empty((len(rows), model.descriptor_dim), dtype=np.float32)
        Describer(model, torch.device("cpu")).describe(images, out, 8)
        return out

    batches = PlaceSampler(places, settings, describe)
    parts = [city.part("val", role) for role in (DATABASE, QUERY)]
    loaders = [image_loader(ImageList(city.folder, rows["image"], preprocess), 8, 0) for rows in parts]
    validation = Validation(*loaders, positives_of(*parts, 25.0))
    return fit(
        model,
        Criterion(
            "MultiSimilarityLoss",
            {},
            miner,
            miner_options or {},
            model.descriptor_dim,
            len(places),
            settings.memory_size,
        ),
        PlaceImages(ImageList(city.folder, places.images, preprocess), decode=not settings.decode_on_gpu),
        batches,
        validation,
        settings,
        settings.num_workers,
        scratch,
        report,
    )


def test_the_learning_rate_rises_then_falls_at_the_milestones(settings):
    params = changed(settings, warmup_steps=4, milestones=[1, 3], lr_mult=0.5)
    factors = [lr_factor(step, 2, params) for step in range(8)]
    assert factors == [0.25, 0.5, 0.375, 0.5, 0.5, 0.5, 0.25, 0.25]
    assert lr_factor(0, 2, changed(params, warmup_steps=0)) == 1.0


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [({"avx512_bf16": True}, "bf16-mixed"), ({"amx_bf16": True}, "bf16-mixed"), ({"avx512_f": True}, "32-true")],
)
def test_precision_is_half_where_the_processor_computes_with_it(settings, monkeypatch, capabilities, expected):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    assert precision_of(changed(settings, precision="auto", accelerator="cpu")) == expected
    assert precision_of(changed(settings, precision="16-mixed", accelerator="cpu")) == "16-mixed"


def test_a_batch_in_chunks_is_trained_on(city, settings, tmp_path):
    whole = run(city, settings, tmp_path / "a")
    one_chunk = run(city, changed(settings, images_per_forward=6), tmp_path / "b")
    assert equal(whole.last, one_chunk.last)
    chunks = run(city, changed(settings, images_per_forward=4), tmp_path / "c")
    assert not equal(whole.last, chunks.last)
    assert all(torch.isfinite(value).all() for value in chunks.last.values())


@pytest.mark.parametrize(
    ("name", "cls"), [("sgd", torch.optim.SGD), ("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW)]
)
def test_the_optimiser_is_the_one_named(city, settings, tmp_path, name, cls):
    from vpr.training.loop import TrainingModule

    model = VPRModel(SPEC)
    criterion = Criterion("ArcFaceLoss", {}, "none", {}, model.descriptor_dim, 5)
    params = changed(settings, optimizer=name)
    module = TrainingModule(model, criterion, params, 2, Validation(None, None, []))
    optimizer = module.configure_optimizers()["optimizer"]
    assert type(optimizer) is cls
    # A loss with weights of its own is optimised with the model.
    optimised = {id(p) for group in optimizer.param_groups for p in group["params"]}
    assert {id(p) for p in criterion.parameters()} <= optimised
    assert len(list(criterion.parameters())) == 1


def test_training_reports_and_keeps_what_it_should(city, settings, tmp_path):
    printed = []
    trained = run(city, settings, tmp_path, lambda values, step: printed.append((step, values)))
    steps = [row for row in trained.history if "loss" in row]
    assert [row["step"] for row in steps] == [2, 4, 6]  # an epoch has two batches
    assert all({"lr", "informative_share"} <= set(row) for row in steps)
    validations = [row for row in trained.history if "val_recall_at_1" in row]
    assert [row["epoch"] for row in validations] == [1, 2, 3]
    assert len(printed) == len(trained.history)
    # Rates are reported, and kept out of the history, which is equal for equal runs.
    assert [step for step, values in printed if values.get("images_per_s", 0) > 0] == [2, 4, 6]
    assert all("images_per_s" not in row for row in trained.history)
    best = max(validations, key=lambda row: row["val_recall_at_1"])
    assert trained.best_epoch == best["epoch"]  # the first of the best
    assert trained.num_images == 6 * 6
    assert steps[-1]["lr"] == pytest.approx(settings.lr * settings.lr_mult)


def test_the_validation_recall_is_that_of_extraction_and_search(city, settings, tmp_path):
    trained = run(city, settings, tmp_path)
    model = VPRModel(SPEC)
    model.load_state_dict(trained.last)
    descriptors = []
    for role in (DATABASE, QUERY):
        rows = city.part("val", role)
        images = ImageList(city.folder, rows["image"], Preprocess(SPEC.image_size))
        out = torch.zeros(len(rows), model.descriptor_dim).numpy()
        Describer(model, torch.device("cpu")).describe(images, out, 5)
        descriptors.append(out)
    positives = positives_of(city.part("val", DATABASE), city.part("val", QUERY), 25.0)
    recalls = recall_at(search(*descriptors, 20)[0], positives, [1, 5, 10, 20])
    last = [row for row in trained.history if "val_recall_at_1" in row][-1]
    assert {n: last[f"val_recall_at_{n}"] for n in recalls} == pytest.approx(recalls)


def equal(a: dict, b: dict) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def test_the_same_settings_give_the_same_weights_whatever_the_loader(city, settings, tmp_path):
    one = run(city, settings, tmp_path / "a")
    two = run(city, changed(settings, num_workers=1), tmp_path / "b")
    assert equal(one.last, two.last)
    other = run(city, changed(settings, seed=7), tmp_path / "c")
    assert not equal(one.last, other.last)


@pytest.mark.parametrize(
    ("miner", "changes"),
    [
        ("none", {}),
        ("none", {"num_workers": 1}),
        ("UniformHistogramMiner", {}),
        ("none", {"memory_size": 10}),
        ("none", {"batches": "similar", "similar_places": 3}),
        ("none", {"batches": "similar", "similar_places": 3, "num_workers": 1}),
    ],
)
def test_an_interrupted_training_goes_on_to_the_same_weights(city, settings, tmp_path, miner, changes):
    settings = changed(settings, **changes)
    # A shell's background jobs ignore Ctrl-C, and so would this test.
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    whole = run(city, settings, tmp_path / "whole", miner=miner)
    seen = []

    def stop_in_epoch_2(values, step):
        seen.append(step)
        if step == 4 and "loss" in values:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        run(city, settings, tmp_path / "cut", stop_in_epoch_2, miner)
    assert max(seen) == 4
    signal.signal(signal.SIGINT, handler)
    again = []
    resumed = run(city, settings, tmp_path / "cut", lambda values, step: again.append(step), miner)
    assert min(again) == 4, "the first epoch was trained again"
    assert equal(whole.last, resumed.last)
    assert equal(whole.best, resumed.best)
    assert resumed.history == whole.history


def test_similar_places_are_looked_for_once_in_an_epoch_by_the_model_of_that_moment(city, settings, tmp_path):
    asked = []
    similar = run(city, changed(settings, batches="similar", similar_places=3), tmp_path / "a", asked=asked)
    assert len(asked) == settings.max_epochs
    random = run(city, settings, tmp_path / "b")
    assert not equal(similar.last, random.last)


def test_batches_without_pairs_move_no_weight(city, settings, tmp_path):
    """PairMarginMiner with margins that every pair keeps picks nothing."""
    params = changed(settings, optimizer="adamw", weight_decay=0.1, max_epochs=1)
    torch.manual_seed(params.seed)
    before = VPRModel(SPEC).state_dict()
    trained = run(
        city, params, tmp_path, miner="PairMarginMiner", miner_options={"pos_margin": -2.0, "neg_margin": 2.0}
    )
    weights = dict(VPRModel(SPEC).named_parameters())
    assert all(torch.equal(before[name], trained.last[name]) for name in weights)
    assert [row["batches_without_pairs"] for row in trained.history if "loss" in row] == [2.0]


def test_the_memory_s_descriptors_take_part(city, settings, tmp_path):
    remembering = run(city, changed(settings, memory_size=12), tmp_path / "a")
    forgetful = run(city, settings, tmp_path / "b")
    assert not equal(remembering.last, forgetful.last)


class Planted:
    """Leaves a file where it is unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, "w")


def test_images_that_the_device_decodes_teach_the_same(city, settings, tmp_path):
    one, two = (run(city, changed(settings, decode_on_gpu=on), tmp_path / str(on)) for on in (False, True))
    losses = [[row["loss"] for row in trained.history if "loss" in row] for trained in (one, two)]
    assert len(losses[0]) >= 2
    assert losses[0] == pytest.approx(losses[1], abs=0.02), "resized pixels differ by one of 255 at most"


def test_no_code_in_a_resume_checkpoint_is_run(city, settings, tmp_path):
    torch.save({"epoch": 0, "state_dict": Planted(tmp_path / "planted")}, tmp_path / "resume.ckpt")
    with pytest.warns(UserWarning, match="training starts from the beginning"):
        trained = run(city, changed(settings, max_epochs=1), tmp_path)
    assert not (tmp_path / "planted").exists()
    assert len([row for row in trained.history if "loss" in row]) > 0


def test_a_broken_resume_checkpoint_starts_again_and_says_so(city, settings, tmp_path):
    (tmp_path / "resume.ckpt").write_bytes(b"half a file")
    with pytest.warns(UserWarning, match="training starts from the beginning"):
        trained = run(city, settings, tmp_path)
    assert [row["epoch"] for row in trained.history if "val_recall_at_1" in row] == [1, 2, 3]


def test_a_loss_that_is_not_a_number_stops_training_with_advice(city, settings, tmp_path):
    with pytest.raises(UserError, match=r"loss is nan at step .*; lower lr"):
        # No file may ask for such a rate.
        run(city, settings.model_copy(update={"lr": 1e30, "warmup_steps": 0, "optimizer": "sgd"}), tmp_path)


def test_bfloat16_trains(city, settings, tmp_path):
    trained = run(city, changed(settings, precision="bf16-mixed", max_epochs=1), tmp_path)
    assert all(torch.isfinite(v).all() for v in trained.last.values() if v.is_floating_point())


def test_an_untrained_model_is_the_one_that_a_training_begins_with(tmp_path):
    params = Path(__file__).parents[3] / "params.yaml"
    configuration = load_configuration(Params.read(params))
    history, summary = use_untrained(configuration, tmp_path, "digest")
    for name in ("best", "last"):
        model, metadata = load_checkpoint(tmp_path / f"{name}.ckpt")
        begun = build_model(configuration, None).state_dict()
        assert all(torch.equal(value, begun[key]) for key, value in model.state_dict().items())
        assert metadata["epoch"] == 0
    assert (len(history), summary.checkpoint, summary.best_epoch, summary.num_places) == (0, "untrained", 0, 0)
