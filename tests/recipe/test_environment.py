import pytest

LAUNCHERS = {
    "RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "NODE_RANK": "0", "MASTER_PORT": "1", "SLURM_NTASKS": "1",
    "SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_NODEID": "0",
}  # fmt: skip
MALFORMED = ["x", "", "-1", "1.5", "0x1", "1e3", "²"]
INCOMPLETE = {
    "WORLD_SIZE=2": "WORLD_SIZE=2 without RANK in the environment: start the ranks with torchrun, or unset",
    "WORLD_SIZE=2 RANK=0": "WORLD_SIZE=2 without MASTER_ADDR, MASTER_PORT, LOCAL_RANK in the environment",
    "RANK=2 WORLD_SIZE=2": "RANK=2 of WORLD_SIZE=2 in the environment: ranks count from 0",
    "MASTER_PORT=70000": "MASTER_PORT=70000 in the environment: ports end at 65535",
    "SLURM_NTASKS=2": "SLURM_NTASKS=2 without SLURM_PROCID, SLURM_LOCALID, SLURM_NODEID, SLURM_NTASKS_PER_NODE",
    "SLURM_NTASKS=1": "SLURM_NTASKS=1 without SLURM_PROCID, SLURM_LOCALID, SLURM_NODEID in the environment: start with",
}
UNKNOWN = {
    "TORCHPLUG_FIT__NONSENSE": "sets nothing: unset it",
    "TORCHPLUG_TEST__NONSENSE": "sets nothing",
    "TORCHPLUG_FIT__TRAINER__MAX_EPOCH": "did you mean TORCHPLUG_FIT__TRAINER__MAX_EPOCHS?",
    "TORCHPLUG_FIT_TRAINER__MAX_EPOCHS": "did you mean TORCHPLUG_FIT__TRAINER__MAX_EPOCHS?",
    "TORCHPLUG_FIT__MODEL__OPTIMIZER__LR": "TORCHPLUG_FIT__MODEL__OPTIMIZER='{class_path: NAME, init_args: {lr: …}}'",
    "TORCHPLUG_PLUGIN": "did you mean TORCHPLUG_PLUGINS?",
    "TORCHPLUG_CONFG": "did you mean TORCHPLUG_CONFIG?",
    "TORCHPLUG_SEED": "sets nothing",
    "TORCHPLUG_FIT__OUTPUT": "did you mean TORCHPLUG_PREDICT__OUTPUT?",
}


@pytest.fixture
def refused(run, tmp_path):

    def line(*arguments):
        status, printed, errors = run(["fit", *arguments])
        assert (status, printed, errors.count("\n")) == (2, "", 1)
        assert not (tmp_path / "runs").exists()
        return errors

    return line


@pytest.mark.parametrize("name", LAUNCHERS)
@pytest.mark.parametrize("value", MALFORMED)
def test_variables_that_are_no_numbers(refused, monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    assert f"{name}={value} in the environment: it must be a whole number of at least {LAUNCHERS[name]}" in refused()


@pytest.mark.parametrize("variables", INCOMPLETE)
def test_variables_without_those_that_belong_to_them(refused, monkeypatch, variables):
    for variable in variables.split():
        monkeypatch.setenv(*variable.split("="))
    assert INCOMPLETE[variables] in refused()


OTHER_WORLDS = {
    ("LOCAL_RANK=0", "--trainer.devices 2"): "1 started process, and --trainer.devices and num_nodes ask for 2",
    ("LOCAL_RANK=0 WORLD_SIZE=1 NODE_RANK=0 MASTER_ADDR=localhost MASTER_PORT=2", "--trainer.devices 2"): "1 started",
    ("LOCAL_RANK=0 WORLD_SIZE=2 RANK=0 MASTER_ADDR=localhost MASTER_PORT=2", ""): "2 started processes",
    ("LOCAL_RANK=0 WORLD_SIZE=2", ""): "2 started processes, and --trainer.devices and num_nodes ask for 1",
}


@pytest.mark.parametrize(("variables", "flags"), OTHER_WORLDS)
def test_variables_of_another_number_of_ranks(refused, monkeypatch, variables, flags):
    for variable in variables.split():
        monkeypatch.setenv(*variable.split("="))
    assert OTHER_WORLDS[variables, flags] in refused("--trainer.accelerator", "cpu", *flags.split())


@pytest.mark.parametrize("name", UNKNOWN)
def test_unknown_variables(refused, monkeypatch, name):
    monkeypatch.setenv(name, "3")
    line = refused()
    assert f"{name} in the environment" in line
    assert UNKNOWN[name] in line


def test_variables_of_plugins_and_other_subcommands(run, monkeypatch):
    for name in ("TORCHPLUG_ROBUST_SETTING", "TORCHPLUG_PREDICT__OUTPUT", "TORCHPLUG_TEST__DATA__SOURCE"):
        monkeypatch.setenv(name, "x.csv")
    assert run(["fit", "--print_config"])[0] == 0


def test_an_interactive_slurm_shell_is_no_launch(run, monkeypatch):
    monkeypatch.setenv("SLURM_NTASKS", "2")
    monkeypatch.setenv("SLURM_JOB_NAME", "bash")
    assert run(["fit", "--print_config"])[0] == 0
