import pytest

from recipe_calls import call, load


@pytest.fixture
def command_of(monkeypatch, tmp_path):
    """Parse a recipe's command line without running it."""
    monkeypatch.chdir(tmp_path)

    def parsed(line, recipe="mlp"):
        from torchplug.recipe import command

        commands = []
        monkeypatch.setattr(command.running, "run", lambda command, module, data: commands.append(command) or 0)
        monkeypatch.setattr(command.Command, "module", lambda self: None)
        main = load(recipe).main.__wrapped__
        assert main(line) == 0
        return commands[0]

    return parsed


@pytest.fixture
def run(monkeypatch, tmp_path, capsys):
    """Run a recipe's command line in an empty directory: exit status, output, errors."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "disabled")

    def ran(line, recipe="linear_regression"):
        return call(capsys, line, recipe)

    return ran
