import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from torchplug import interruption


@pytest.fixture(autouse=True)
def _default_handler():
    """A shell's background ignores SIGINT."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def send(signum):
    signal.pthread_kill(threading.main_thread().ident, signum)


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_an_interruption_and_handlers_come_back(signum):
    before = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
    with pytest.raises(KeyboardInterrupt), interruption.handled("name", lambda: True):
        send(signum)
    assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)] == before
    assert not interruption.requested()


def test_a_deferred_signal_is_noted():
    with interruption.handled("name", lambda: True):
        interruption.defer(alone=True)
        send(signal.SIGTERM)
        send(signal.SIGTERM)  # as launchers send it to a group and to each process
        assert interruption.requested()


def test_a_postponed_signal_acts_afterwards():
    done = []

    def postpone():
        with interruption.postponed():
            send(signal.SIGINT)
            done.append(True)

    with interruption.handled("name", lambda: True), pytest.raises(KeyboardInterrupt):
        postpone()
    assert done


def test_what_ignores_ctrl_c_goes_on_ignoring_it():
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with interruption.handled("name", lambda: True):
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


def test_a_function_of_the_library_handles_signals_but_has_no_name():
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), interruption.handled_within():
        send(signal.SIGINT)
    with interruption.handled_within():
        assert interruption.message("stopped") == "stopped"
    assert signal.getsignal(signal.SIGINT) == before
    with interruption.handled("name", lambda: True):
        with interruption.handled_within():
            assert interruption.message("stopped") == "name: stopped"
        assert interruption.is_handled()
        assert interruption.message("stopped") == "name: stopped"


SCRIPT = """
import sys, time
if {recipe}:
    from torchplug import recipe
    recipe.reports_errors
else:
    import torchplug
import signal
print(signal.getsignal(signal.SIGTERM) is signal.SIG_DFL, flush=True)
"""


@pytest.mark.parametrize("recipe", [True, False])
def test_only_a_recipe_is_handled_from_its_import_on(tmp_path, recipe):
    file = tmp_path / "script.py"
    source = SCRIPT.format(recipe=recipe)
    file.write_text(source if recipe else source.replace("    recipe.reports_errors\n", "    pass\n"))
    done = subprocess.run([sys.executable, file], capture_output=True, text=True, check=True)
    assert done.stdout == f"{not recipe}\n"


STUCK = """
import sys
from torchplug import recipe
@recipe.reports_errors
def main(arguments=None):
    import ctypes
    print("in a long call", flush=True)
    while True:
        ctypes.CDLL(None).sleep(60)  # other threads run meanwhile; a signal wakes it, and is handled then
if __name__ == "__main__":
    sys.exit(main())
"""


def test_a_long_call_is_ended(tmp_path):
    file = tmp_path / "stuck.py"
    file.write_text(STUCK)
    process = subprocess.Popen(
        [sys.executable, file],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert process.stdout.readline() == "in a long call\n"
    time.sleep(0.2)
    os.kill(process.pid, signal.SIGINT)
    printed, errors = process.communicate(timeout=60)
    assert (process.returncode, printed, errors) == (130, "", "stuck.py: interrupted\n")
