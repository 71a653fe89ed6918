"""One extraction gives the recalls under every protocol of a set."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from small_model import save_small_model
from vpr.commands import main as cli
from vpr.config.errors import UserError
from vpr.descriptors.trained_model import Model
from vpr.published.protocols import compare_protocols, protocols_of
from vpr.published.reproduction import PublishedRecall
from vpr.sources.base import Context
from vpr.sources.catalogue import SourceParams, load_sources

NUMBER = 40


@pytest.fixture(scope="module")
def railway(tmp_path_factory):
    """Frames 2.4 m apart by two seasons, as VPR-datasets-downloader writes them; a query looks like 5 frames later."""
    folder = tmp_path_factory.mktemp("nordland")
    rng = np.random.default_rng(0)
    looks = rng.integers(0, 255, (NUMBER, 24, 32, 3), dtype=np.uint8)
    for k in range(NUMBER):
        for season, pixels in (("database", looks[k]), ("queries", looks[(k + 5) % NUMBER])):
            path = folder / f"images/test/{season}/@0@{2.4 * k:.1f}@@@@@{k}@@@@@@@@.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)
    return folder


@pytest.fixture
def sources(railway, pytestconfig) -> dict[str, SourceParams]:
    known = load_sources(pytestconfig.rootpath / "data/sources.yaml")
    url = f"file://{railway}"
    small = {name: known[name] for name in known if name.startswith("nordland") and known[name].layout == "standard"}
    return {name: source.model_copy(update={"url": url, "expected": {}}) for name, source in small.items()}


def test_nordland_has_five_protocols_and_each_has_its_own_recall(
    railway, sources, tmp_path, data_root, monkeypatch, capsys
):
    monkeypatch.setattr(
        "vpr.published.protocols.read_published",
        lambda: [PublishedRecall("small", "nordland_2760", (76.0, 89.2), "https://example.org")],
    )
    model = Model(save_small_model(tmp_path / "m.ckpt"), "cpu")
    context = Context(tmp_path / "sources.yaml", tmp_path / "known.json")
    results = {r.set: r for r in compare_protocols("nordland", model, "small", sources, context, 25.0)}
    assert f"describing {2 * NUMBER} images once for 5 protocols" in capsys.readouterr().out
    queries = {"nordland": 40, "nordland_10": 40, "nordland_25m": 40, "nordland_back": 40, "nordland_2760": 4}
    assert {name: result.num_queries for name, result in results.items()} == queries
    recalls = {name: result.recalls[1] for name, result in results.items()}
    near_the_end = 5 / NUMBER  # whose look is that of the first frames
    assert recalls == {
        "nordland": 0, "nordland_back": 0, "nordland_2760": 0,
        "nordland_10": 1 - near_the_end, "nordland_25m": 1 - near_the_end,
    }  # fmt: skip
    assert results["nordland_2760"].published == (76.0, 89.2)
    assert results["nordland"].published == (None, None)
    assert results["nordland_25m"].recalls_without is None


def test_queries_without_a_positive_count_or_are_left_out(tmp_path, data_root):
    for k, (part, east) in enumerate([("database", 0), ("queries", 5), ("queries", 500), ("queries", 600)]):
        path = tmp_path / f"set/images/test/{part}/@{east}@0@x@.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((24, 32, 3), k * 60, dtype=np.uint8)).save(path)
    source = SourceParams(url=f"file://{tmp_path}/set", layout="standard", folder="images/test", protocol="25 m")
    model = Model(save_small_model(tmp_path / "m.ckpt"), "cpu")
    context = Context(tmp_path / "sources.yaml", tmp_path / "known.json")
    (result,) = compare_protocols("own", model, "small", {"own": source}, context, 25.0)
    assert (result.num_queries, result.num_without) == (3, 2)
    assert result.recalls[1] == pytest.approx(1 / 3)
    assert result.recalls_without == {1: 1.0, 5: 1.0}


def test_a_protocol_that_lacks_its_own_file_is_left_out_and_other_numbers_of_images_are_said(
    railway, tmp_path, data_root, capsys
):
    whole = SourceParams(
        url=f"file://{railway}", layout="standard", folder="images/test", frame_window=0, protocol="all",
        expected={"queries": 41},
    )  # fmt: skip
    chosen = {"msls_val": whole, "msls_val_740": whole.model_copy(update={"query_list": "msls_val_740.txt"})}
    context = Context(tmp_path / "sources.yaml", tmp_path / "known.json")
    model = Model(save_small_model(tmp_path / "m.ckpt"), "cpu")
    (result,) = compare_protocols("msls_val", model, "small", chosen, context, 25.0)
    assert result.set == "msls_val"
    said = capsys.readouterr().out
    assert "without msls_val_740: " in said
    assert "msls_val has 40 queries, not 41, so its published recalls are of other images" in said


def test_the_protocols_of_a_set_share_its_images(pytestconfig):
    known = load_sources(pytestconfig.rootpath / "data/sources.yaml")
    nordland = ["nordland", "nordland_10", "nordland_25m", "nordland_2760", "nordland_back"]
    assert sorted(protocols_of("nordland", known)) == nordland
    there = {**known, "msls_val": known["msls_val"].model_copy(update={"url": "file:///msls"})}
    found = protocols_of("msls_val", there)
    assert sorted(found) == ["msls_val", "msls_val_740"]
    assert found["msls_val_740"].url == "file:///msls"
    assert sorted(protocols_of("svox_sun", known)) == ["svox_sun"]
    with pytest.raises(UserError, match=r"msls_val\.url is null: get the images as docs"):
        protocols_of("msls_val", known)
    with pytest.raises(UserError, match=r"'nordlan' is not an evaluation set .* \(did you mean 'nordland'"):
        protocols_of("nordlan", known)


def test_the_command_needs_a_model_and_a_set(monkeypatch, capsys, pytestconfig):
    monkeypatch.chdir(pytestconfig.rootpath)
    for row, message in (("nordland", "names no model; expected MODEL/SET"), ("megaloc/msls_val", "url is null")):
        monkeypatch.setattr("sys.argv", ["vpr", "protocols", row])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        assert ended.value.code == 1
        assert message in capsys.readouterr().err
