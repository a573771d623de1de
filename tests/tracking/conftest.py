import gzip
import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest


@pytest.fixture
def wandb_home(tmp_path, monkeypatch):
    """The real client, with nobody logged in, whose files all go to the test's own folder."""
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("NETRC", str(home / ".netrc"))
    for name in ("CONFIG_DIR", "CACHE_DIR", "DATA_DIR"):
        monkeypatch.setenv(f"WANDB_{name}", str(home / name))
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    yield home
    if sys.modules.get("wandb"):
        import wandb
        from wandb.sdk.lib import wbauth

        wbauth.unauthenticate_session(update_settings=False)
        wandb.teardown()


class Recorded:
    """What a .wandb file holds, read by W&B's own reader in another process."""

    def __init__(self, folder, run="*"):
        (self.file,) = Path(folder).glob(f"wandb/*run-*/run-{run}.wandb")
        self.records = [json.loads(line) for line in self._inspect().splitlines()]

    def _inspect(self, *options):
        client = str(Path(sys.executable).with_name("wandb"))
        command = [client, "leet", "inspect", "--json", *options, str(self.file)]
        return subprocess.run(command, capture_output=True, check=True, text=True).stdout

    def run(self):
        """The run's state, config and summary as W&B shows them."""
        return json.loads(self._inspect("--summary"))

    @property
    def rows(self):
        """The logged rows as metrics.jsonl has them: W&B leaves out an epoch that nobody gave."""
        rows = []
        for record in self.records:
            if record["type"] == "history":
                item = {name: value for name, value in record["history"]["item"].items() if not name.startswith("_")}
                rows.append({"step": item.pop("trainer/global_step"), "epoch": item.pop("epoch", None), **item})
        return rows

    def of(self, kind):
        return [record[kind] for record in self.records if record["type"] == kind]


@pytest.fixture
def recorded():
    return Recorded


VIEWER = {"id": "1", "entity": "me", "username": "me", "email": "", "flags": "{}", "teams": {"edges": []}}


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        answer = {}
        if self.path == "/graphql":
            request = json.loads(body)
            answer = {"data": self.answer(request["operationName"], request.get("variables"))}
        elif self.path.endswith("/file_stream"):
            files = json.loads(body).get("files") or {}
            rows = files.get("wandb-history.jsonl", {}).get("content", [])
            self.server.rows += [json.loads(row) for row in rows]
        self.reply(json.dumps(answer).encode())

    def do_PUT(self):  # uploads of files
        self.do_POST()

    def answer(self, operation, variables):
        if operation == "Viewer":
            return {"viewer": VIEWER}
        if operation == "UpsertBucket":
            project = {"id": "1", "name": "p", "entity": {"id": "1", "name": "me"}}
            bucket = {
                "id": "1",
                "name": variables["name"],
                "displayName": "run",
                "project": project,
                "historyLineCount": 0,
            }
            self.server.runs.add(variables["name"])
            return {"upsertBucket": {"bucket": bucket, "inserted": True}}
        if operation == "CreateRunFiles":
            files = [{"name": name, "uploadUrl": f"{self.server.url}/{name}"} for name in variables["files"]]
            return {"createRunFiles": {"runID": "1", "uploadHeaders": [], "files": files}}
        return {}

    def reply(self, body):
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass


class Server(ThreadingHTTPServer):
    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.runs, self.rows = set(), []


@pytest.fixture
def wandb_server(wandb_home, monkeypatch):
    """As much of a W&B server as a run needs that logs numbers, and a key that it accepts."""
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()

    def stop():
        if thread.is_alive():
            server.shutdown()
            thread.join()
            server.server_close()

    server.stop = stop
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    monkeypatch.setenv("WANDB_BASE_URL", server.url)
    try:
        yield server
    finally:
        stop()
