import os
import subprocess
import sys

import pytest
from lightning.pytorch.utilities import rank_zero_only

from torchplug.errors import ConfigurationError
from torchplug.tracking.agreement import HANDOVER, agree


@pytest.fixture(autouse=True)
def _lone_process(monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "NODE_RANK"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(HANDOVER, "")
    monkeypatch.delenv(HANDOVER)


def _never() -> str:
    raise AssertionError("rank 0 alone makes it")


def test_a_process_that_lightning_launches_is_told_by_its_environment(monkeypatch):
    assert agree(lambda: "runs/a") == "runs/a"
    monkeypatch.setattr(rank_zero_only, "rank", 1)
    assert agree(_never) == "runs/a"


def test_what_was_told_serves_once(monkeypatch):
    agree(lambda: "runs/a")
    monkeypatch.setattr(rank_zero_only, "rank", 1)
    agree(_never)
    with pytest.raises(ConfigurationError, match="torchrun"):
        agree(_never)


def test_rank_zero_never_takes_a_directory_that_an_earlier_job_left_in_the_environment():
    assert agree(lambda: "runs/a") == "runs/a"
    assert agree(lambda: "runs/b") == "runs/b"
    assert os.environ[HANDOVER] == "runs/b"


def test_the_first_process_of_another_node_is_not_taken_for_rank_zero(monkeypatch):
    monkeypatch.setenv("NODE_RANK", "1")
    with pytest.raises(ConfigurationError, match="torchrun"):
        agree(_never)


SCRIPT = """
import sys, torch.distributed as dist
from torchplug.tracking.run import Run
first, second = (Run.create("mlp", sys.argv[1]) for _ in range(2))
dist.init_process_group("gloo")  # forms as if nobody had met before
paths = [None, None]
dist.all_gather_object(paths, (str(first.path), str(second.path)))
assert paths[0] == paths[1], paths
assert first.path != second.path
first.write_config(f"written by rank {dist.get_rank()}")
dist.barrier()
dist.destroy_process_group()
"""


@pytest.mark.parametrize("agent_hosts_the_store", [True, False])
def test_ranks_of_torchrun_share_directories_and_jobs_do_not(tmp_path, agent_hosts_the_store):
    script = tmp_path / "job.py"
    script.write_text(SCRIPT)
    # A stale value, as a job of Lightning's launcher in the same shell session might export.
    environment = {**os.environ, HANDOVER: str(tmp_path / "stale"), "OMP_NUM_THREADS": "1"}
    if not agent_hosts_the_store:
        environment["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] = "1"
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    result = subprocess.run(
        [*command, str(script), str(tmp_path / "runs")], env=environment, capture_output=True, text=True, timeout=120
    )
    assert result.returncode == 0, result.stderr
    contents = [list(directory.iterdir()) for directory in (tmp_path / "runs" / "mlp").iterdir()]
    empty, (file,) = sorted(contents, key=len)
    assert (file.name, file.read_text()) == ("config.yaml", "written by rank 0")
    assert empty == []
