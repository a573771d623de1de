import pytest

from recipe_calls import load


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
