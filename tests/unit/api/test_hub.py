"""Models on the Hugging Face Hub: into a folder, and through a server that speaks the hub's API."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import subprocess
import sys
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import torch

import vpr
from scratch_project import ROOT
from vpr.commands import main as cli
from vpr.published.hub_download import write_checkpoint

COMMIT = "0123456789abcdef0123456789abcdef01234567"
RECALLS = {
    "num_queries": 200, "num_database": 900, "positives": "25 m", "recall_at_1": 0.575, "recall_at_5": 0.8,
    "recall_at_10": 0.87,
}  # fmt: skip


def run(monkeypatch, *command: str) -> int:
    monkeypatch.setattr("sys.argv", ["vpr", *command])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    return stop.value.code


def test_a_folder_holds_the_model_and_a_card_with_its_numbers(checkpoint, photos, tmp_path, monkeypatch):
    (tmp_path / "recalls").mkdir()
    (tmp_path / "recalls" / "test.json").write_text(json.dumps(RECALLS))
    folder = tmp_path / "mine"
    command = ["push", "--folder", str(folder), "--model", str(checkpoint), "--recalls", str(tmp_path / "recalls")]
    assert run(monkeypatch, *command) == 0
    assert {path.name for path in folder.iterdir()} == {"model.safetensors", "config.json", "README.md"}
    write_checkpoint(folder, tmp_path / "again.ckpt")
    first, again = vpr.load(checkpoint, "cpu"), vpr.load(tmp_path / "again.ckpt", "cpu")
    assert first.spec == again.spec
    assert first.metadata == again.metadata
    np.testing.assert_array_equal(first.describe(photos[:3]), again.describe(photos[:3]))
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert "| test | 200 | 900 | 25 m | 57.5 | 80.0 | 87.0 |" in card
    assert re.search(r"^\| pushed from commit \| [0-9a-f]{40}", card, re.MULTILINE)
    said = ("license: mit", "| descriptor | 64 |", "| agg | gem |", "| dataset | synthetic |", "train: {seed: 3}")
    assert all(each in card for each in said)
    monkeypatch.setenv("VPR_HOME", str(tmp_path / "home"))
    assert vpr.load(folder, "cpu").spec == first.spec
    assert run(monkeypatch, *command) == 0, "what it wrote itself may be written again"
    (folder / "thesis.tex").touch()
    assert run(monkeypatch, *command) == 1


def test_the_licence_of_others_weights_has_to_be_named(checkpoint, tmp_path, monkeypatch, capsys):
    content = torch.load(checkpoint, weights_only=True)
    content["metadata"]["configuration"]["dataset"]["name"] = "https://github.com/serizba/salad"
    torch.save(content, tmp_path / "m.ckpt")
    command = ["push", "--folder", str(tmp_path / "f"), "--model", str(tmp_path / "m.ckpt")]
    assert run(monkeypatch, *command) == 1
    assert "with --license" in capsys.readouterr().err
    assert run(monkeypatch, *command, "--license", "gpl-3.0") == 0
    assert "license: gpl-3.0" in (tmp_path / "f/README.md").read_text(encoding="utf-8")


def test_what_is_no_model_is_refused(checkpoint, tmp_path):
    with pytest.raises(vpr.UserError, match=r"model\.safetensors and config\.json missing"):
        write_checkpoint(tmp_path, tmp_path / "x.ckpt")
    (tmp_path / "model.safetensors").write_bytes(b"nothing")
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(vpr.UserError, match="not a model that `vpr push` wrote"):
        write_checkpoint(tmp_path, tmp_path / "x.ckpt")


class _Hub(BaseHTTPRequestHandler):
    """The part of the hub's API that uploading and fetching a repository uses."""

    files: dict[str, bytes]

    def log_message(self, *_):
        pass

    def answer(self, content: bytes, status: int = 200, **headers: str) -> None:
        self.send_response(status)
        for key, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(key.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def do_POST(self):
        body, address = self.rfile.read(int(self.headers["Content-Length"] or 0)), f"http://{self.headers['Host']}"
        if self.path.endswith("/repos/create"):
            return self.answer(json.dumps({"url": f"{address}/me/tower", "id": "me/tower"}).encode())
        if "/preupload/" in self.path:
            asked = json.loads(body)["files"]
            found = [{"path": each["path"], "uploadMode": "regular", "shouldIgnore": False} for each in asked]
            return self.answer(json.dumps({"files": found}).encode())
        if "/commit/" in self.path:
            for line in body.splitlines():
                entry = json.loads(line)
                if entry["key"] == "file":
                    self.files[entry["value"]["path"]] = base64.b64decode(entry["value"]["content"])
            done = {
                "commitUrl": f"{address}/me/tower/commit/{COMMIT}",
                "commitOid": COMMIT,
                "success": True,
            }
            return self.answer(json.dumps(done).encode())
        return self.answer(b"{}", 200)

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        path = self.path.partition("?")[0]
        if "/resolve/" in path:
            content = self.files.get(path.rpartition("/")[2])
            if content is None:
                return self.answer(b"", 404, X_Error_Code="EntryNotFound")
            etag = hashlib.sha1(content).hexdigest()
            return self.answer(content, ETag=f'"{etag}"', X_Repo_Commit=COMMIT)
        if "/tree/" in path:
            found = [
                {"type": "file", "path": name, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
                for name, content in self.files.items()
            ]
            return self.answer(json.dumps(found).encode(), Content_Type="application/json")
        siblings = [{"rfilename": name} for name in self.files]
        about = {"id": "me/tower", "sha": COMMIT, "siblings": siblings, "private": False, "tags": []}
        return self.answer(json.dumps(about).encode(), Content_Type="application/json")


@contextmanager
def hub():
    handler = type("Handler", (_Hub,), {"files": {}})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", handler.files
        finally:
            server.shutdown()
            thread.join()


def test_a_model_goes_to_the_hub_and_comes_back(checkpoint, photos, tmp_path):
    with hub() as (address, files):
        env = os.environ | {
            "HF_ENDPOINT": address, "HF_HOME": str(tmp_path / "hf"), "HF_TOKEN": "hf_x",
            "VPR_HOME": str(tmp_path / "home"), "PYTHONPATH": str(ROOT / "src"), "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        }  # fmt: skip
        push = [sys.executable, "-m", "vpr.commands.main", "push", "me/tower", "--model", str(checkpoint)]
        done = subprocess.run(push, env=env, cwd=tmp_path, capture_output=True, text=True)
        assert done.stdout == "hf://me/tower\n", done.stderr
        assert set(files) == {"model.safetensors", "config.json", "README.md"}
        code = (
            "import sys, vpr, numpy; m = vpr.load('hf://me/tower', 'cpu');"
            "numpy.save('found.npy', m.describe(sys.argv[1:])); print(m.checkpoint)"
        )
        command = [sys.executable, "-c", code, *map(str, photos[:2])]
        done = subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, text=True)
        assert done.stdout.strip().endswith(f"home/hub/me/tower/{COMMIT}.ckpt"), done.stderr
    np.testing.assert_array_equal(np.load(tmp_path / "found.npy"), vpr.load(checkpoint, "cpu").describe(photos[:2]))
