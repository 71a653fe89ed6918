"""The targets of fuzzing: every reader of untrusted files, with inputs like real ones and a limit of time.

A target takes bytes. It may answer or refuse with a sentence, as ``UserError``; anything else is a finding.
"""

from __future__ import annotations

import asyncio
import io
import json
import os
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import yaml
from hypothesis import strategies as st
from PIL import Image

from vpr.api.mapillary import Area, _chosen, images_in
from vpr.config.errors import UserError
from vpr.config.params import Params
from vpr.data.checksums import file_sha256
from vpr.data.csv_files import to_csv
from vpr.data.images import ImageError, decode
from vpr.data.manifest import Manifest, read_manifest, write_manifest, write_parts
from vpr.descriptors.trained_model import Model
from vpr.localization.index_files import IndexFacts
from vpr.model.checkpoint import load_checkpoint, save_checkpoint
from vpr.model.spec import ModelSpec
from vpr.model.vpr_model import VPRModel
from vpr.published.hub_download import CONFIG, WEIGHTS, write_checkpoint
from vpr.serving.answers_page import AnswersPage
from vpr.serving.index import Index
from vpr.serving.localizer import Localizer
from vpr.serving.server import Limits, make_app
from vpr.sources.base import Context
from vpr.sources.custom import Custom, CustomParams
from vpr.sources.ground_truth import read_ground_truth
from vpr.sources.standard_naming import FIELDS, parse_name
from vpr.sources.unpack import unpack
from vpr.stages.check import check_params
from vpr.training.build import check_model
from vpr.training.configuration import load_configuration
from vpr.verification.checks import verify

ROOT = Path(__file__).parents[2]
CORPUS = Path(__file__).parent / "corpus"
SPEC = ModelSpec("resnet18", {"layers_to_crop": [2, 3, 4]}, "gem", {}, image_size=(16, 16))


@dataclass(frozen=True)
class Target:
    """A reader under attack.

    Attributes:
        attack: reads an input.
        inputs: strategy that makes inputs.
        seconds: Time that an input may take.
    """

    attack: Callable[[bytes], None]
    inputs: st.SearchStrategy[bytes]
    seconds: float = 10.0


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder for one input, and where images are looked for."""
    with tempfile.TemporaryDirectory() as folder:
        before = os.environ.get("DATA_ROOT")
        os.environ["DATA_ROOT"] = f"{folder}/images"
        try:
            yield Path(folder)
        finally:
            os.environ.pop("DATA_ROOT")
            if before is not None:
                os.environ["DATA_ROOT"] = before


def listing_of(source: Path) -> Manifest:
    """The images of a table or folder."""
    return Custom("custom").prepare(
        CustomParams(
            source=str(source),
            root=None,
            columns={},
            splits={},
            utm_zone=None,
            ground_truth={},
            allow_pickle=False,
            places=None,
        ),
        Context(),
    )


# Mutations of files.

_NUMBERS = [0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 2**63 - 1, 2**64 - 1]
_OPERATIONS = st.tuples(
    st.sampled_from(["flip", "write", "insert", "delete", "repeat", "cut", "number"]),
    st.integers(0, 2**20),
    st.binary(min_size=1, max_size=8),
    st.sampled_from(_NUMBERS),
)


def mutate(content: bytes, operations: list[tuple[str, int, bytes, int]]) -> bytes:
    """Change a file here and there."""
    data = bytearray(content)
    for kind, place, extra, number in operations:
        at = place % (len(data) + 1)
        if kind == "flip" and at < len(data):
            data[at] ^= 1 << (extra[0] % 8)
        elif kind == "write":
            data[at : at + len(extra)] = extra
        elif kind == "insert":
            data[at:at] = extra
        elif kind == "delete":
            del data[at : at + extra[0]]
        elif kind == "repeat":
            data[at:at] = data[at : at + extra[0]] * (1 + extra[-1] % 16)
        elif kind == "cut":
            del data[at:]
        elif kind == "number":
            width = 1 << (extra[0] % 4)
            data[at : at + width] = (number % 2 ** (8 * width)).to_bytes(width, "little" if extra[-1] % 2 else "big")
    return bytes(data)


def corpus(target: str) -> list[bytes]:
    """The inputs that are kept for a target, without findings that are still to be mended."""
    return [path.read_bytes() for path in sorted((CORPUS / target).iterdir()) if not path.name.startswith("finding-")]


def mutated(target: str) -> st.SearchStrategy[bytes]:
    """Files of the corpus with some changes."""
    return st.builds(mutate, st.sampled_from(corpus(target)), st.lists(_OPERATIONS, max_size=6))


# Values of YAML and JSON.

_SCALARS = (
    st.none() | st.booleans() | st.integers(-10, 10**4) | st.sampled_from([-(2**63), 2**32, 10**9, 2**64, 10**40])
    | st.floats() | st.text(max_size=8) | st.sampled_from(["imagenet", "gem", "../..", "$(id)", "\0", "x.ckpt"])
)  # fmt: skip
_VALUES = st.recursive(
    _SCALARS,
    lambda part: st.lists(part, max_size=4) | st.dictionaries(st.text(max_size=4) | st.integers(), part, max_size=3),
    max_leaves=6,
)
_JSON = st.recursive(
    _SCALARS,
    lambda part: st.lists(part, max_size=4) | st.dictionaries(st.text(max_size=4), part, max_size=3),
    max_leaves=6,
)


def places(content: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path of each key of a nested mapping."""
    found = []
    for key, value in content.items():
        found.append((*at, key))
        if isinstance(value, dict):
            found += places(value, (*at, key))
    return found


@st.composite
def edited_yaml(draw: Any, file: Path) -> bytes:
    """A file of ours with some values or keys changed."""
    content = yaml.safe_load(file.read_text(encoding="utf-8"))
    for _ in range(draw(st.integers(1, 3))):
        known = places(content)
        *parents, last = known[draw(st.integers(0, len(known) - 1))]
        part = content
        for key in parents:
            part = part[key]
        kind = draw(st.sampled_from(["value", "value", "value", "number", "remove", "add"]))
        if kind == "value":
            part[last] = draw(_VALUES)
        elif kind == "number" and isinstance(part[last], (int, float)):
            part[last] = draw(st.integers(-2, 300) | st.floats(-1, 2))
        elif kind == "remove":
            del part[last]
        else:
            part[draw(st.text(max_size=5))] = draw(_VALUES)
    return yaml.safe_dump(content, allow_unicode=True).encode("utf-8", "surrogatepass")


# Names.

_FIELD = (
    st.text(max_size=6)
    | st.sampled_from(["", "32", "T", "nan", "inf", "-1e400", "9" * 20, "١٢"])
    | st.floats().map(str)
)
_NAMES = st.lists(_FIELD, min_size=len(FIELDS) - 1, max_size=len(FIELDS) + 1).map(
    lambda fields: f"@{'@'.join(fields)}@.jpg".encode("utf-8", "surrogatepass")
)


def attack_name(content: bytes) -> None:
    """The fields of a file's name, and what the pipeline makes of them."""
    name = content.decode("utf-8", "replace")
    with suppress(ValueError):  # the callers expect it
        parse_name(name)
    with scratch() as folder, suppress(UserError):
        file = "".join(c for c in name if c not in "/\0")[:60] + ".png"
        picture = folder / "own" / "train" / file
        picture.parent.mkdir(parents=True)
        try:
            Image.new("RGB", (4, 4)).save(picture)
        except OSError:
            return
        verify(listing_of(folder / "own"), 25.0, 1)


# Settings.


def attack_params(content: bytes) -> None:
    """The check stage on a params.yaml."""
    with scratch() as folder, suppress(UserError):
        (folder / "params.yaml").write_bytes(content)
        params = Params.read(folder / "params.yaml")
        check_params(params, Context(catalogue=ROOT / "data/sources.yaml"))
        configuration = load_configuration(params)
        if configuration.settings.weights is None:  # the others are fetched
            check_model(configuration, params)


def attack_catalogue(content: bytes) -> None:
    """The check stage on a data/sources.yaml."""
    with scratch() as folder, suppress(UserError):
        (folder / "sources.yaml").write_bytes(content)
        check_params(Params.read(ROOT / "params.yaml"), Context(catalogue=folder / "sources.yaml"))


# Tables.

_CELLS = st.text(max_size=6) | st.sampled_from(
    ["0.png", "1.png", "./0.png", "../x.png", "/etc/passwd", "train", "a/database", "a/queries", "32T", "99Z", "=1+1",
     "<script>", "nan", "inf", "-0.0", "1e308", "2020", "45.0", "500000", "5000000", "\0", "\r", "-180.0001"]
)  # fmt: skip
_COLUMNS = [
    "image", "split", "place_id", "utm_east", "utm_north", "utm_zone", "lat", "lon", "heading", "timestamp", "index",
    "level_0", "role", "set", "problem", "sha256", "frame", "positive_frames", "train_place_id",
]  # fmt: skip


@st.composite
def tables(draw: Any) -> bytes:
    """A table as CSV or Parquet, its cells of any kind."""
    names = draw(st.lists(st.sampled_from(_COLUMNS) | st.text(max_size=4), min_size=1, max_size=6, unique=True))
    names = ["image", "split", *[name for name in names if name not in ("image", "split")]]
    num_rows = draw(st.integers(0, 5))
    rows = []
    for k in range(num_rows):
        row = {name: draw(_CELLS) for name in names}
        if draw(st.booleans()):
            row |= {"image": f"{k % 2}.png", "split": draw(st.sampled_from(["train", "a/database", "a/queries"]))}
        rows.append(row)
    table = pd.DataFrame(rows, columns=names)
    if draw(st.booleans()):
        return table.to_csv(index=False).encode(draw(st.sampled_from(["utf-8", "utf-8-sig", "utf-16"])), "replace")
    for name in table.columns:
        kind = draw(st.sampled_from(["text", "text", "number", "list", "time", "bytes", "nothing", "bool"]))
        made: dict[str, Any] = {
            "number": lambda: draw(st.floats() | st.integers(-9, 9)),
            "list": lambda: [draw(st.integers(0, 9))],
            "time": lambda: pd.Timestamp("2020-01-01"),
            "bytes": lambda: b"\xff",
            "nothing": lambda: None,
            "bool": lambda: draw(st.booleans()),
        }
        if kind in made:
            table[name] = pd.Series([made[kind]() for _ in range(len(table))], dtype=object)
    buffer = io.BytesIO()
    try:
        table.to_parquet(buffer)
    except Exception:  # not a table that anyone could have written
        return b"image,split\n0.png,train\n"
    return buffer.getvalue()


def attack_table(content: bytes) -> None:
    """A table of one's own images, from its listing to the manifest."""
    with scratch() as folder, suppress(UserError):
        for k in range(2):
            Image.new("RGB", (4, 4), (k, 0, 0)).save(folder / f"{k}.png")
        table = folder / ("own.parquet" if content.startswith(b"PAR1") else "own.csv")
        table.write_bytes(content)
        write_manifest(listing_of(table), folder / "listing.parquet")
        verified = verify(read_manifest(folder / "listing.parquet"), 25.0, 1)
        write_parts(verified.manifest, folder / "parts", None)
        to_csv(verified.manifest.rows)


# Files.


def attack_image(content: bytes) -> None:
    """A photo."""
    with suppress(ImageError):
        image = decode(content)
        assert image.mode == "RGB"


def attack_checkpoint(content: bytes) -> None:
    """A checkpoint."""
    with scratch() as folder, suppress(UserError):
        (folder / "m.ckpt").write_bytes(content)
        load_checkpoint(folder / "m.ckpt")


def attack_archive(content: bytes) -> None:
    """An archive; nothing may be written beside its folder."""
    with scratch() as folder:
        (folder / "a").write_bytes(content)
        with suppress(UserError):
            unpack(folder / "a", folder / "out" / "here")
        assert {path.name for path in folder.iterdir()} <= {"a", "out"}
        assert {path.name for path in (folder / "out").iterdir()} <= {"here"}
        assert not [path for path in (folder / "out").rglob("*") if path.is_symlink()]


def attack_ground_truth(content: bytes) -> None:
    """A file of positives."""
    with scratch() as folder, suppress(UserError):
        (folder / "g.npy").write_bytes(content)
        read_ground_truth("sources.s", folder / "g.npy", 2, 3)


# An index folder, as a zip of its three files.


@cache
def served() -> Localizer:
    """A tiny model and its index."""
    folder = Path(tempfile.mkdtemp())
    torch.manual_seed(0)
    save_checkpoint(folder / "m.ckpt", SPEC, VPRModel(SPEC).state_dict(), {})
    (folder / "index").mkdir()
    unzip(corpus("index")[0], folder / "index")
    known = Index.load(folder / "index")
    index = Index(
        known.descriptors, known.images, IndexFacts(file_sha256(folder / "m.ckpt"), "", "", 25.0), known.calibration
    )
    localizer = Localizer(Model(folder / "m.ckpt", "cpu"), index)
    shutil.rmtree(folder)
    return localizer


def unzip(content: bytes, folder: Path) -> None:
    with zipfile.ZipFile(io.BytesIO(content)) as files:
        for name in ("descriptors.npy", "images.parquet", "index.json"):
            with suppress(KeyError):
                (folder / name).write_bytes(files.read(name))


@st.composite
def index_folders(draw: Any) -> bytes:
    """An index with one of its files changed."""
    with zipfile.ZipFile(io.BytesIO(draw(st.sampled_from(corpus("index"))))) as files:
        parts = {name: files.read(name) for name in files.namelist()}
    name = draw(st.sampled_from(sorted(parts)))
    if name == "index.json" and draw(st.booleans()):
        try:
            content = json.loads(parts[name])
            at = draw(st.sampled_from(places(content)))
            part = content
            for key in at[:-1]:
                part = part[key]
            part[at[-1]] = draw(_JSON)
            parts[name] = json.dumps(content).encode()
        except (ValueError, AttributeError):
            pass
    else:
        parts[name] = mutate(parts[name], draw(st.lists(_OPERATIONS, min_size=1, max_size=4)))
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as files:
        for part, content in parts.items():
            files.writestr(part, content)
    return buffer.getvalue()


def attack_index(content: bytes) -> None:
    """An index folder, and an answer from it."""
    with scratch() as folder, suppress(UserError):
        unzip(content, folder)
        index = Index.load(folder)
        localizer = object.__new__(Localizer)
        model = served().model
        if index.descriptors.shape[1] != model.descriptor_dim:
            return
        localizer.__dict__.update(served().__dict__)
        localizer.index = index
        answers = localizer.locate(["it"], np.eye(1, model.descriptor_dim, dtype=np.float32))
        json.dumps([answer.as_dict() for answer in answers], allow_nan=False)


# Requests.


@cache
def app() -> Any:
    page = AnswersPage.of("fuzz", served().index, None)
    return make_app(served(), Limits(body_mb=1, photos=4, megapixels=1, seconds=5), page)


@st.composite
def requests(draw: Any) -> bytes:
    """The body of a request: nearly right, or any JSON, or any bytes."""
    kind = draw(st.sampled_from(["near", "near", "json", "bytes"]))
    if kind == "bytes":
        return draw(st.binary(max_size=200))
    if kind == "json":
        return json.dumps(draw(_JSON)).encode("utf-8", "surrogatepass")
    return mutate(draw(st.sampled_from(corpus("request"))), draw(st.lists(_OPERATIONS, max_size=3)))


def attack_request(body: bytes) -> None:
    """A request to the server."""
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    scope = {
        "type": "http", "method": "POST", "path": "/invocations", "raw_path": b"/invocations", "query_string": b"",
        "headers": [(b"host", b"localhost"), (b"content-type", b"application/json")],
        "http_version": "1.1", "scheme": "http", "root_path": "", "asgi": {"version": "3.0"},
    }  # fmt: skip
    asyncio.run(app()(scope, receive, send))
    assert sent[0]["status"] in (200, 400, 413), sent[0]["status"]
    answer = json.loads(b"".join(part.get("body", b"") for part in sent[1:]))
    assert set(answer) in ({"predictions"}, {"error"})


# Responses of servers: a folder of the hub, as a zip of its two files, and an answer of Mapillary.


def attack_hub(content: bytes) -> None:
    """A model of the Hugging Face Hub."""
    with scratch() as folder, suppress(UserError):
        try:
            with zipfile.ZipFile(io.BytesIO(content)) as files:
                for name in (WEIGHTS, CONFIG):
                    with suppress(KeyError):
                        (folder / name).write_bytes(files.read(name))
        except Exception:  # the zip itself is valid
            return
        write_checkpoint(folder, folder / "m.ckpt")
        load_checkpoint(folder / "m.ckpt")


def attack_mapillary(content: bytes) -> None:
    """An answer of Mapillary's API."""
    try:
        answer = json.loads(content)
    except (ValueError, RecursionError):
        return
    with suppress(UserError):
        rows = _chosen(images_in(answer), Area((-180.0, -80.0, 180.0, 84.0)))
        if len(rows):
            assert rows["image"].str.fullmatch(r"images/\w+\.jpg").all(), "no path leads elsewhere"
            assert np.isfinite(rows[["lat", "lon", "utm_east", "utm_north"]].to_numpy(dtype=float)).all()


@st.composite
def mapillary_answers(draw: Any) -> bytes:
    """An answer with one of its values changed."""
    answer = json.loads(draw(st.sampled_from(corpus("mapillary"))))
    at = draw(st.sampled_from(places(answer)))
    part = answer
    for key in at[:-1]:
        part = part[key]
    part[at[-1]] = draw(_JSON)
    return json.dumps(answer).encode("utf-8", "surrogatepass")


TARGETS = {
    "name": Target(attack_name, _NAMES),
    "params": Target(attack_params, edited_yaml(ROOT / "params.yaml"), 30.0),
    "catalogue": Target(attack_catalogue, edited_yaml(ROOT / "data/sources.yaml")),
    "table": Target(attack_table, tables() | mutated("table")),
    "image": Target(attack_image, mutated("image")),
    "checkpoint": Target(attack_checkpoint, mutated("checkpoint")),
    "index": Target(attack_index, index_folders()),
    "archive": Target(attack_archive, mutated("archive")),
    "ground_truth": Target(attack_ground_truth, mutated("ground_truth")),
    "request": Target(attack_request, requests()),
    "hub": Target(attack_hub, mutated("hub")),
    "mapillary": Target(attack_mapillary, mapillary_answers() | mutated("mapillary")),
}
