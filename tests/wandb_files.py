"""What W&B keeps of a run on the disk, read; and servers that stand in for W&B's."""

import http.server
import json
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def offline_records(folder: Path) -> dict[str, list[Any]]:
    """Everything in the one offline file below `folder` that stands, once W&B's own process has closed it, by kind."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        paths = [path for path in folder.glob("**/offline-run-*/run-*.wandb") if "earlier" not in path.parts]
        records = read_records(paths[0]) if paths else {}
        if "exit" in records:
            break
        time.sleep(0.1)
    assert len(paths) == 1
    return records


def read_records(path: Path) -> dict[str, list[Any]]:
    """The records of an offline file by kind.

    The file is a LevelDB log: blocks of 32 KiB, each fragment with a header of checksum, length and type (1 whole,
    2 first, 3 middle, 4 last), after seven bytes of W&B's own; each record is one of its protocol buffers.
    """
    from wandb.proto import wandb_internal_pb2

    data, position, parts = path.read_bytes(), 7, b""
    records: dict[str, list[Any]] = {}
    while position + 7 <= len(data):
        left = 32768 - position % 32768
        if left < 7:
            position += left
            continue
        length, kind = struct.unpack("<HB", data[position + 4 : position + 7])
        parts += data[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(parts)
            name, parts = record.WhichOneof("record_type"), b""
            records.setdefault(name, []).append(getattr(record, name))
    return records


def summary_of(records: dict[str, list[Any]]) -> dict[str, Any]:
    """The last value of everything in a run's summary."""
    items = [item for record in records.get("summary", []) for item in record.update]
    items += [item for record in records.get("history", []) for item in record.item]
    return {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items}


def rows_of(records: dict[str, list[Any]]) -> list[dict[str, Any]]:
    """The rows of a run's history."""
    return [
        {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in row.item}
        for row in records.get("history", [])
    ]


class Server(http.server.ThreadingHTTPServer):
    """Says yes to all that W&B's core asks, and keeps it: `calls`, and of each run the `streams` of its files."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answers)
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.streams: dict[str, list[dict[str, Any]]] = {}

    def history(self, run_id: str) -> list[dict[str, Any]]:
        """The rows that a run has there: each chunk takes the place of what stood from its offset on."""
        lines: list[dict[str, Any]] = []
        for stream in self.streams.get(run_id, []):
            if "wandb-history.jsonl" in stream.get("files", {}):
                chunk = stream["files"]["wandb-history.jsonl"]
                lines[chunk["offset"] :] = [json.loads(line) for line in chunk["content"]]
        return lines


class _Answers(http.server.BaseHTTPRequestHandler):
    server: Server

    def log_message(self, format: str, *arguments: Any) -> None:
        pass

    def do_GET(self) -> None:
        self._say({})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        if self.path.endswith("/file_stream"):
            self.server.streams.setdefault(self.path.split("/")[-2], []).append(json.loads(body))
        if not self.path.endswith("/graphql"):
            return self._say({})
        query = json.loads(body)
        variables = query.get("variables") or {}
        self.server.calls.append((str(query.get("operationName")), variables))
        project = {"id": "p", "name": variables.get("project"), "entity": {"id": "e", "name": "me"}}
        bucket = {"id": "r", "name": variables.get("name"), "displayName": "", "config": "{}", "project": project}
        return self._say(
            {
                "data": {
                    "viewer": {"id": "u", "entity": "me", "username": "me", "flags": "{}", "teams": {"edges": []}},
                    "serverInfo": {"cliVersionInfo": {"max_cli_version": "0.99"}, "features": []},
                    "upsertBucket": {"bucket": bucket, "inserted": True},
                    "model": {"bucket": None},
                    "project": {"run": None},
                    "createRunFiles": {"runID": "r", "uploadHeaders": [], "files": []},
                }
            }
        )

    def _say(self, value: dict[str, Any]) -> None:
        data = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


@contextmanager
def answering() -> Iterator[Server]:
    """A server that takes everything."""
    with Server() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@contextmanager
def silent() -> Iterator[tuple[str, list[Any]]]:
    """The address of a server that takes connections and never says a word, and what it was asked."""
    held: list[Any] = []

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
                held.append((connection, connection.recv(1000)))
            except OSError:
                return

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=accept, daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", held
        listener.shutdown(socket.SHUT_RDWR)
    for connection, _ in held:
        connection.close()
