"""Completion on Tab: what the shell gets, and what happens without argcomplete."""

import io
import os
import shutil
import subprocess
import sys
from functools import partial

import pytest

from pydnn.cli import main


@pytest.fixture
def completed(monkeypatch):
    """The function that completes the line before the cursor, as the shell asks for it."""
    argcomplete = pytest.importorskip("argcomplete")

    class Finder(argcomplete.CompletionFinder):
        def _init_debug_stream(self):  # otherwise it closes file 9, which may be pytest's
            sys.modules["argcomplete.io"].debug_stream = sys.stderr

    def complete(line):
        stream = io.StringIO()
        finder = partial(Finder(), exit_method=sys.exit, output_stream=stream)
        monkeypatch.setattr(argcomplete, "autocomplete", finder)
        for name, value in {"": "1", "_IFS": "\n"}.items():
            monkeypatch.setenv(f"_ARGCOMPLETE{name}", value)
        monkeypatch.setenv("COMP_LINE", line)
        monkeypatch.setenv("COMP_POINT", str(len(line)))
        with pytest.raises(SystemExit):
            main([])
        return [choice.strip() for choice in stream.getvalue().split("\n")]

    return complete


LINES = {
    "a command": ("pydnn re", {"resume", "replay"}),
    "a command of data": ("pydnn data dr", {"draw"}),
    "an option": ("pydnn train --learn", {"--learning-rate"}),
    "a choice": ("pydnn train --numerics p", {"portable"}),
    "a part": ("pydnn train --optimizer ada", {"adagrad", "adam"}),
    "a loss": ("pydnn sweep --loss softmax", {"softmax_cross_entropy"}),
    "a family": ("pydnn parts optimi", {"optimizer"}),
    "a shell": ("pydnn completion ", {"bash", "zsh"}),
    "nothing": ("pydnn train --numerics x", set()),
}


@pytest.mark.parametrize(("line", "least"), LINES.values(), ids=LINES)
def test_tab_completes(completed, line, least):
    choices = set(completed(line)) - {""}
    last = line.rpartition(" ")[2]
    assert least <= choices
    assert all(choice.startswith(last) for choice in choices)
    assert bool(least) == bool(choices)


def test_tab_completes_files_without_options_between_them(completed, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.toml").touch()
    assert completed("pydnn train ") == ["mine.toml"]


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_the_script_is_for_the_shell_and_for_pydnn(command, shell):
    pytest.importorskip("argcomplete")
    status, out, err = command("completion", shell)
    assert (status, err) == (0, "")
    assert "pydnn" in out
    if shutil.which(shell):
        assert subprocess.run([shell, "-n"], input=out, text=True).returncode == 0


def test_without_argcomplete_one_line_names_what_to_install(command, monkeypatch):
    monkeypatch.setitem(sys.modules, "argcomplete", None)
    status, out, err = command("completion", "bash")
    assert (status, out) == (2, "")
    assert err.startswith("pydnn: completing on Tab needs argcomplete, which ")
    assert err.count("\n") == 1


def test_an_unknown_shell_is_refused(command):
    status, _, err = command("completion", "fish")
    assert status == 2
    assert "invalid choice: 'fish'" in err


@pytest.mark.slow
def test_bash_completes_the_command(tmp_path):
    """The script, the shell's own completion and the command, in processes of their own."""
    pytest.importorskip("argcomplete")
    if not shutil.which("bash"):
        pytest.skip("there is no bash")
    start = tmp_path / "pydnn"
    start.write_text(f'#!/bin/sh\nexec {sys.executable} -m pydnn "$@"\n')
    start.chmod(0o755)
    script = """
        eval "$(pydnn completion bash)"
        COMP_WORDS=(pydnn train --numer) COMP_CWORD=2 COMP_LINE="pydnn train --numer"
        COMP_POINT=${#COMP_LINE} COMP_TYPE=9
        _python_argcomplete pydnn
        printf '%s' "${COMPREPLY[@]}"
    """
    environment = os.environ | {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-c", script], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "--numerics"
