"""Extraction and verification by Ray on a cluster of three machines in one, of which one is lost."""

from __future__ import annotations

import random
import shutil
import signal
import threading
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from PIL import Image

from vpr.config.errors import UserError
from vpr.data.loading import ImageList
from vpr.data.manifest import DATABASE
from vpr.descriptors import ray_extraction
from vpr.descriptors.ray_extraction import extract_with_ray
from vpr.model.checkpoint import load_checkpoint, save_checkpoint
from vpr.model.describing import Describer
from vpr.model.spec import ModelSpec
from vpr.model.vpr_model import VPRModel
from vpr.serving.lance_index import LanceIndex, add_photos
from vpr.verification.checks import verify

ray = pytest.importorskip("ray")
pytestmark = pytest.mark.filterwarnings("ignore")  # Ray's own
SPEC = ModelSpec("resnet18", {"layers_to_crop": [2, 3, 4]}, "gem", {}, image_size=(24, 32))
BATCH = 8


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("model") / "model.ckpt"
    save_checkpoint(path, SPEC, VPRModel(SPEC).state_dict(), {})
    return path


@pytest.fixture
def cluster(monkeypatch):
    """A head and two more machines, with a core each."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False})
    monkeypatch.setenv("RAY_ADDRESS", cluster.address)
    others = [cluster.add_node(num_cpus=2) for _ in range(2)]
    yield cluster, others
    ray.shutdown()
    cluster.shutdown()


@pytest.fixture
def many(city, tmp_path, monkeypatch) -> ImageList:
    """Many copies of the city's images, in shards of 16."""
    monkeypatch.setattr(ray_extraction, "SHARD", 16)
    monkeypatch.setattr(ray_extraction, "main_root", lambda: tmp_path)
    names = city.part("val", DATABASE)["image"].to_list()
    return ImageList(city.folder, [names[k % len(names)] for k in range(1000)], SPEC.preprocess())


def local(checkpoint: Path, images: ImageList) -> np.ndarray:
    model, _ = load_checkpoint(checkpoint)
    out = np.empty((len(images), model.descriptor_dim), np.float32)
    Describer(model, torch.device("cpu")).describe(images, out, BATCH)
    return out


def test_a_machine_that_is_lost_changes_no_byte_and_nothing_finished_is_computed_again(
    cluster, many, checkpoint, tmp_path
):
    lost: list[dict[str, int]] = []

    def lose_one() -> None:
        while not (finished := sorted(tmp_path.glob("data/scratch/extract-*/*.npy"))[:-1]) or len(finished) < 5:
            time.sleep(0.02)
        cluster[0].remove_node(cluster[1][0], allow_graceful=False)
        lost.append({path.name: path.stat().st_mtime_ns for path in finished})

    killer = threading.Thread(target=lose_one)
    killer.start()
    out = np.empty((len(many), 64), np.float32)
    kept: dict[str, int] = {}
    rmtree = shutil.rmtree

    def remember(folder, *args, **options) -> None:
        kept.update({path.name: path.stat().st_mtime_ns for path in Path(folder).glob("*.npy")})
        rmtree(folder, *args, **options)

    ray_extraction.shutil.rmtree = remember
    try:
        extract_with_ray(checkpoint, many, many.images, out, "cpu", BATCH, "many")
    finally:
        ray_extraction.shutil.rmtree = rmtree
    killer.join(timeout=60)
    assert lost, "no machine was lost in time"
    assert len(kept) == -(-len(many) // 16)
    assert lost[0].items() <= kept.items(), "a finished shard was written again"
    np.testing.assert_array_equal(out, local(checkpoint, many))


def test_twenty_killed_actors_change_no_byte(many, checkpoint, monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    rng, kills, over = random.Random(0), [], threading.Event()

    def kill_now_and_then() -> None:
        while len(kills) < 20 and not over.wait(rng.uniform(0.5, 6.0)):
            workers = [p for p in psutil.process_iter() if "ray::MapWorker" in " ".join(cmdline_of(p))]
            if workers:
                rng.choice(workers).send_signal(signal.SIGKILL)
                kills.append(time.monotonic())

    killer = threading.Thread(target=kill_now_and_then)
    killer.start()
    expected = local(checkpoint, many)
    try:
        while len(kills) < 20:
            out = np.empty((len(many), 64), np.float32)
            extract_with_ray(checkpoint, many, many.images, out, "cpu", BATCH, "many")
            np.testing.assert_array_equal(out, expected)
    finally:
        over.set()
        killer.join()


def cmdline_of(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def test_a_second_run_goes_on_where_the_first_stopped(many, checkpoint, tmp_path, monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    broken = many.images[500]
    target = tmp_path / "photos"
    shutil.copytree(many.folder, target)
    images = ImageList(target, many.images, SPEC.preprocess())
    whole = (target / broken).read_bytes()
    (target / broken).write_bytes(whole[:200])
    out = np.empty((len(images), 64), np.float32)
    with pytest.raises(UserError, match=broken.rpartition("/")[2].split("@")[1]):
        extract_with_ray(checkpoint, images, images.images, out, "cpu", BATCH, "many")
    left = list(tmp_path.glob("data/scratch/extract-*/*.npy"))
    assert left
    for file in left:  # a shard of other images, under the same names
        np.save(file, np.full_like(np.load(file), 7))
    changed = ["other", *images.images[1:]]
    (target / broken).write_bytes(whole)
    extract_with_ray(checkpoint, images, changed, out, "cpu", BATCH, "many")
    np.testing.assert_array_equal(out, local(checkpoint, images))
    for file in left:
        file.unlink()
    extract_with_ray(checkpoint, images, images.images, out, "cpu", BATCH, "many")
    np.testing.assert_array_equal(out, local(checkpoint, images))
    assert not list(tmp_path.glob("data/scratch/extract-*"))
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    with pytest.raises(UserError, match=r"RAY_ADDRESS is '127\.0\.0\.1:1', but no Ray cluster answers"):
        extract_with_ray(checkpoint, images, images.images, out, "cpu", BATCH, "many")


def test_verification_by_ray_finds_what_the_local_one_does(city, tmp_path, monkeypatch):
    from vpr.data.manifest import Manifest

    target = tmp_path / "photos"
    shutil.copytree(city.folder, target)
    listing = Manifest(city.name, str(target), city.rows)
    (target / city.rows["image"].iloc[3]).write_bytes(b"no image")
    Image.new("L", (5, 5)).save(target / city.rows["image"].iloc[4], "jpeg")
    found = []
    for engine in ("local", "ray"):
        monkeypatch.setenv("DATA_ROOT", str(tmp_path / engine))
        found.append(verify(listing, 25.0, 1, engine=engine))
    assert found[0].problems.equals(found[1].problems)
    assert found[0].manifest.rows.equals(found[1].manifest.rows)
    assert found[0].statistics == found[1].statistics


def test_machines_add_what_they_describe_to_lancedb(cluster, city, checkpoint, tmp_path):
    pytest.importorskip("lancedb")
    rows = city.part("val", DATABASE)[["image", "utm_east", "utm_north", "utm_zone"]].assign(note="mine")
    for engine in ("local", "ray"):
        index, number = add_photos(city.folder, checkpoint, str(tmp_path / engine), None, 25.0, BATCH, rows, engine)
        assert number == len(index) == len(rows)
    one, other = (LanceIndex(str(tmp_path / engine)) for engine in ("local", "ray"))
    images = ImageList(city.folder, rows["image"], SPEC.preprocess())
    queries = local(checkpoint, images)
    for mine, theirs in zip(one.search(queries, 5), other.search(queries, 5), strict=True):
        assert np.array_equal(mine.distances, theirs.distances)
        assert mine.images["image"].to_list() == theirs.images["image"].to_list()
    assert "note" in other.columns
    again, number = add_photos(city.folder, checkpoint, str(tmp_path / "ray"), None, 25.0, BATCH, rows, "ray")
    assert (number, len(again)) == (0, len(rows))
