"""How the parser's long errors become one line."""

from torchplug.recipe.messages import one_line

FLAGS = ["--data.seed", "--model.optimizer", "--trainer.max_epochs"]


def test_an_unknown_flag_gets_near_ones():
    assert one_line("unrecognized arguments: --model.optimiser=adam", FLAGS) == (
        "unknown flag --model.optimiser; did you mean --model.optimizer?"
    )
    assert one_line("unrecognized arguments: --xyz 3", FLAGS) == "unknown flag --xyz; see --help"


def test_union_types_are_named():
    message = """Parser key "trainer.max_epochs":
      Does not validate against any of the Union subtypes
      Subtypes: [<class 'int'>, <class 'NoneType'>]
      Errors:
        - Expected a <class 'int'>
        - Expected a <class 'NoneType'>
      Given value type: <class 'str'>
      Given value: many"""
    assert one_line(message, FLAGS) == "--trainer.max_epochs: expected int or null, got many"


def test_what_is_not_recognized_stays_readable():
    assert one_line("Parser key \"config\": File does not exist: 'x'", FLAGS) == "--config: File does not exist: 'x'"
