"""``dataset: gsv_xs``, ``dvc repro``: from archives on a server to recalls, in a scratch project of its own."""

from __future__ import annotations

import io
import json
import shutil
import zipfile

import pandas as pd
import pytest
import yaml

from file_server import serve
from scratch_project import Project


@pytest.fixture(scope="module")
def published(tmp_path_factory, project, first_run, warm):
    """The tiny city's images as a server's archives, and a project whose sources these are."""
    images = next((project.folder / "data/images").glob("synthetic-*"))
    archives = {"gsv-xs.zip": ["train"], "sf_xs.zip": ["val", "test"], "tokyo_xs.zip": ["night"]}
    with serve() as server:
        for name, folders in archives.items():
            buffer = io.BytesIO()
            with zipfile.ZipFile(buffer, "w") as content:
                for folder in folders:
                    for path in sorted((images / folder).rglob("*.jpg")):
                        content.write(path, f"{name[:-4]}/{path.relative_to(images)}")
            server.content[f"/{name}"] = buffer.getvalue()
        ours = warm(Project(tmp_path_factory.mktemp("published")))
        theirs = yaml.safe_load((project.folder / "params.yaml").read_text(encoding="utf-8"))
        params = yaml.safe_load((ours.folder / "params.yaml").read_text(encoding="utf-8"))
        sources = yaml.safe_load((ours.folder / "data/sources.yaml").read_text(encoding="utf-8"))
        params |= {"dataset": "gsv_xs", "eval_sets": ["val"]}
        params["datasets"]["gsv_xs"]["train"] = theirs["datasets"]["synthetic"]["train"]
        params["extract"] = theirs["extract"]
        for source in ("gsv_xs", "sf_xs_val", "sf_xs_test", "tokyo_xs"):
            file = {"gsv_xs": "gsv-xs.zip", "tokyo_xs": "tokyo_xs.zip"}.get(source, "sf_xs.zip")
            sources[source] |= {"url": f"{server.url}/{file}", "expected": {}}
        sources["gsv_xs"]["expected"] = {"places": 12, "cities": 1}
        sources["tokyo_xs"]["folder"] = "night"
        (ours.folder / "data/sources.yaml").write_text(yaml.safe_dump(sources, sort_keys=False), encoding="utf-8")
        (ours.folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False), encoding="utf-8")
        yield ours, server


def test_archives_become_the_recalls_that_their_images_have(published, project):
    ours, server = published
    server.script = [("break", 1 << 16), 503]
    output = ours("dvc", "repro")
    assert "attempt 2 of 6" in output
    assert ours.recalls("val") == {**project.recalls("val"), "protocol": "25 m"}
    counts = json.loads((ours.folder / "metrics/dataset.json").read_text(encoding="utf-8"))
    assert counts["sources"]["gsv_xs"]["found"] == {
        "images": counts["train"]["num_images"], "places": 12, "cities": 1, "city_names": ["aldora"],
    }  # fmt: skip
    known = json.loads((ours.folder / "data/known_hashes.json").read_text(encoding="utf-8"))
    assert {name for files in known.values() for name in files} == {path.strip("/") for path in server.content}
    assert len(server.ranges()) == 5  # three archives and two troubles: SF-XS is fetched once for both its sets
    ours.commit("first run")
    assert ours.stages_run(ours("dvc", "repro")) == set()


def test_a_given_checkpoint_is_evaluated_on_one_set_and_nothing_else_is_fetched(published, warm):
    ours, server = published
    shutil.copy(ours.folder / "data/models/best.ckpt", ours.folder / "given.ckpt")
    copy = warm(ours.copy(ours.folder.parent / "given"))
    for folder in ("links", "downloads"):
        shutil.rmtree(copy.folder / "data/images" / folder, ignore_errors=True)
    server.asked.clear()
    copy("dvc", "exp", "run", "-S", "train.checkpoint=given.ckpt", "-S", "eval_sets=[night]", "evaluate@night")
    assert not any("gsv-xs" in path for _, path, _ in server.asked)
    rows = pd.read_parquet(copy.folder / "data/listing.parquet")
    assert set(rows["set"]) == {"night"}
    assert copy.recalls("night")["num_queries"] > 0


def test_another_evaluation_set_trains_nothing_again_and_fetches_nothing(published):
    ours, server = published
    server.asked.clear()
    more = ("-S", "++datasets.gsv_xs.images.eval_sets.more=sf_xs_test", "-S", "eval_sets=[val,more]")
    output = ours("dvc", "exp", "run", *more, "evaluate@more")
    assert ours.stages_run(output) == {"check", "download", "verify", "sets@more", "extract@more", "evaluate@more"}
    assert server.asked == []


def test_a_folder_on_the_disk_instead_of_the_server_trains_nothing_again(published):
    ours, _ = published
    folder = next((ours.folder / "data/images/unpacked").glob("*/gsv-xs"))
    output = ours("dvc", "exp", "run", "-S", f"data/sources.yaml:gsv_xs.url=file://{folder}", "evaluate@val")
    assert ours.stages_run(output) == {"check", "download", "verify", "sets@val"}


def test_counts_that_differ_stop_the_pipeline_or_are_a_warning(published):
    ours, _ = published
    differ = ("-S", "data/sources.yaml:gsv_xs.expected.places=13")
    output = ours("dvc", "exp", "run", *differ, fails=True)
    assert "gsv_xs: 12 places, 13 expected" in output
    assert "verify.on_count_difference to warn" in output
    output = ours("dvc", "exp", "run", *differ, "-S", "verify.on_count_difference=warn", "train")
    assert "gsv_xs: 12 places, 13 expected" in output
    problems = pd.read_csv(ours.folder / "data/problems.csv")
    assert "gsv_xs: 12 places, 13 expected" in set(problems["problem"])
    assert "12 places, 13 expected" in (ours.folder / "data/dataset.html").read_text(encoding="utf-8")
    assert "train" not in ours.stages_run(output)
