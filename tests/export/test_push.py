"""Uploading speaks the hub's interface: a small stand-in of it takes the files."""

import base64
import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from headstart.cli.main import main


class Hub(BaseHTTPRequestHandler):
    """Repositories, small files within a commit, large ones by git-lfs."""

    created: dict
    commits: list
    stored: dict

    def log_message(self, *words: object) -> None:
        pass

    def _answer(self, value: object, status: int = 200) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def do_GET(self) -> None:
        self._answer({"id": "someone/shapes", "sha": "0" * 40, "siblings": [], "private": True})

    def do_PUT(self) -> None:
        content = self._body()
        self.stored[hashlib.sha256(content).hexdigest()] = content
        self._answer({})

    def do_POST(self) -> None:
        here = f"http://127.0.0.1:{self.server.server_port}"
        body = self._body()
        if self.path == "/api/repos/create":
            self.created.update(json.loads(body))
            self._answer({"url": f"{here}/someone/shapes"})
        elif "/preupload/" in self.path:
            files = json.loads(body)["files"]
            modes = ["lfs" if one["path"].endswith(".safetensors") else "regular" for one in files]
            told = [
                {"path": one["path"], "uploadMode": mode, "shouldIgnore": False}
                for one, mode in zip(files, modes, strict=True)
            ]
            self._answer({"files": told})
        elif self.path.endswith("/info/lfs/objects/batch"):
            objects = [
                {"oid": one["oid"], "size": one["size"], "actions": {"upload": {"href": f"{here}/put/{one['oid']}"}}}
                for one in json.loads(body)["objects"]
            ]
            self._answer({"transfer": "basic", "objects": objects})
        elif "/commit/" in self.path:
            self.commits += [json.loads(line) for line in body.decode().splitlines()]
            self._answer(
                {"commitUrl": f"{here}/someone/shapes/commit/1", "commitOid": "1" * 40, "pullRequestUrl": None}
            )
        else:
            self._answer({})


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch):
    handler = type("OneHub", (Hub,), {"created": {}, "commits": [], "stored": {}})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
    monkeypatch.setenv("HF_TOKEN", "hf_stand_in")
    yield handler
    server.shutdown()


def test_an_export_is_uploaded_whole(vision: Path, hub, tmp_path: Path, capsys: pytest.CaptureFixture):
    out = tmp_path / "out"
    assert main(["export", str(vision), "--to", "timm", "--out", str(out), "--push", "someone/shapes"]) == 0
    assert "someone/shapes" in capsys.readouterr().out
    assert (hub.created["name"], hub.created["organization"]) == ("shapes", "someone")
    assert hub.created.get("private") is True or hub.created.get("visibility") == "private"
    small = {
        row["value"]["path"]: base64.b64decode(row["value"]["content"]) for row in hub.commits if row["key"] == "file"
    }
    assert small["README.md"] == (out / "README.md").read_bytes()
    assert small["config.json"] == (out / "config.json").read_bytes()
    (large,) = [row["value"] for row in hub.commits if row["key"] == "lfsFile"]
    assert hub.stored[large["oid"]] == (out / "model.safetensors").read_bytes()


def test_what_cannot_be_uploaded_stays_where_it_is(
    vision: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    words = ["export", str(vision), "--to", "timm", "--out", str(tmp_path / "out"), "--push"]
    assert main([*words, "no name"]) == 2
    assert not (tmp_path / "out").exists()
    capsys.readouterr()
    assert main([*words, "someone/shapes"]) == 1
    assert re.search("could not be uploaded to someone/shapes", capsys.readouterr().err)
    assert (tmp_path / "out" / "README.md").is_file()
