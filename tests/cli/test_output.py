import io
import json
import os
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from small_runs import saved_data

from pydnn import cli
from pydnn.cli import main, output
from pydnn.cli.output import complain, say, say_json, say_table, usable_streams

HOSTILE = "a\x1b[2J\n\u202eb\udce9猫"
SHOWN = "a\\x1b[2J\\n\\u202eb\\udce9猫"


def test_results_and_complaints_show_text_and_never_obey_it(capsys):
    say(HOSTILE, 3)
    say()
    complain(HOSTILE)
    out, err = capsys.readouterr()
    assert out == f"{SHOWN}\n3\n\n"
    assert err == f"pydnn: {SHOWN}\n"


def test_a_table_is_aligned_by_what_is_shown(capsys):
    say_table([("name", "count"), ("\n", 5), ("b", 12345678)], align="<>")
    assert capsys.readouterr().out == "name     count\n\\n           5\nb     12345678\n"


def test_an_empty_table_prints_nothing(capsys):
    say_table([], align="<<")
    assert capsys.readouterr().out == ""


def test_long_lines_are_cut(capsys):
    say("x" * 10**6)
    say_table([("y" * 10**6, "z")], align="<<")
    complain("z" * 10**6)
    out, err = capsys.readouterr()
    assert max(map(len, (out + err).splitlines())) <= 10_000


def test_json_keeps_every_text_and_has_no_nan(capsys):
    say_json({"name": HOSTILE, "cost": [np.nan, 1.5, -np.inf], "shape": (2, None)})
    out = capsys.readouterr().out
    assert out.isascii()
    assert json.loads(out) == {"name": HOSTILE, "cost": [None, 1.5, None], "shape": [2, None]}


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
@pytest.mark.parametrize("name", ["q_猫", "caf\udce9", "…"])
def test_a_stream_that_cannot_encode_a_name_shows_an_escape(monkeypatch, encoding, name):
    streams = [io.TextIOWrapper(io.BytesIO(), encoding=encoding) for _ in range(2)]
    monkeypatch.setattr(sys, "stdout", streams[0])
    monkeypatch.setattr(sys, "stderr", streams[1])
    with usable_streams():
        say(name)
        complain(name)
        print(name)  # as argparse and tqdm do
    for stream in streams:
        assert stream.errors == "strict"  # as it was before
        stream.flush()
        assert len(stream.buffer.getvalue().splitlines()) in (1, 2)


@pytest.mark.parametrize("missing", [["stdout"], ["stderr"], ["stdout", "stderr"]])
@pytest.mark.parametrize("argv", [["doctor", "--json"], ["doctor", "none"], ["data", "info", "?"]])
def test_missing_streams_change_no_exit_status(monkeypatch, capsys, missing, argv):
    expected = main(argv)
    for name in missing:
        monkeypatch.setattr(sys, name, None)
    assert main(argv) == expected
    assert all(getattr(sys, name) is None for name in missing)


def test_a_closed_stream_is_like_a_missing_one(monkeypatch):
    closed = io.StringIO()
    closed.close()
    monkeypatch.setattr(sys, "stderr", closed)
    assert main(["summary", "no-such-recipe.toml"]) == 2


class Broken(io.TextIOWrapper):
    def __init__(self, error):
        super().__init__(io.BytesIO())
        self.error = error

    def write(self, text):
        raise self.error

    def flush(self):
        raise self.error


GONE, FULL = BrokenPipeError(32, "Broken pipe"), OSError(28, "No space left on device")


@pytest.mark.parametrize(("error", "status"), [(GONE, 1), (FULL, 2)], ids=["pipe", "disk"])
@pytest.mark.parametrize("argv", [["doctor"], ["doctor", "--json"]])
def test_a_stdout_that_cannot_be_written_ends_in_one_status(monkeypatch, error, status, argv):
    monkeypatch.setattr(sys, "stdout", Broken(error))
    assert main(argv) == status


@pytest.mark.parametrize("error", [GONE, FULL])
def test_a_stderr_that_cannot_be_written_changes_no_status(monkeypatch, error):
    monkeypatch.setattr(sys, "stderr", Broken(error))
    assert main(["summary", "no-such-recipe.toml"]) == 2


def test_a_broken_pipe_of_something_else_is_not_taken_for_a_reader_that_has_gone(
    monkeypatch, capsys
):
    def dies(args):
        raise BrokenPipeError(32, "Broken pipe")

    monkeypatch.setattr(cli.doctor, "_run", dies)
    assert main(["doctor"]) == 2
    assert "Broken pipe" in capsys.readouterr().err


@pytest.mark.parametrize(
    "argv", [["\x1b[2J"], ["train", "--no\nsuch"], ["train", "--iterations", "9" * 10**5]]
)
def test_what_argparse_quotes_is_one_short_line(capsys, argv):
    with pytest.raises(SystemExit) as end:
        main(argv)
    err = capsys.readouterr().err
    assert end.value.code == 2
    assert err.endswith("\n")
    assert err[:-1].isprintable()
    assert len(err) <= 1001


@pytest.mark.parametrize("category", [DeprecationWarning, RuntimeWarning, SyntaxWarning])
def test_a_warning_is_one_line_or_none(monkeypatch, capsys, category):
    def warns(args):
        warnings.simplefilter("always")
        warnings.warn("old\nthing", category, stacklevel=1)
        return 0

    monkeypatch.setattr(cli.doctor, "_run", warns)
    assert main(["doctor"]) == 0
    shown = category is DeprecationWarning  # the others are about arithmetic and odd texts
    assert capsys.readouterr().err == shown * "pydnn: DeprecationWarning: old\\nthing\n"


def test_a_second_interruption_does_not_disturb_the_answer_to_the_first(monkeypatch):
    def interrupted(args):
        raise KeyboardInterrupt

    def complains(message):
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(cli.doctor, "_run", interrupted)
    monkeypatch.setattr(cli, "complain", complains)
    handler = signal.getsignal(signal.SIGINT)
    assert main(["doctor"]) == 130
    assert signal.getsignal(signal.SIGINT) is handler


def test_nothing_on_the_command_line_is_printed_around_the_one_place():
    folder = Path(cli.__file__).parent
    for path in folder.glob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert path == Path(output.__file__) or " print(" not in text, path


PROGRAM = """
import signal, sys
sys.path.insert(0, sys.argv.pop(1))
signal.signal(signal.SIGINT, signal.default_int_handler)
import pydnn_command
raise SystemExit(pydnn_command.main())
"""


@pytest.mark.skipif(os.name != "posix", reason="closes handles and sends signals")
@pytest.mark.parametrize("closed", [(1,), (2,), (0, 1, 2)])
@pytest.mark.slow
def test_handles_that_are_closed_are_like_the_null_device(tmp_path, closed):
    def close():
        for handle in closed:
            os.close(handle)

    argv = [sys.executable, "-c", PROGRAM, str(tmp_path), "train", "--data",
            "diabetes?", "--iterations", "1"]  # fmt: skip
    done = subprocess.run(argv, preexec_fn=close, check=False, timeout=300)
    assert done.returncode == 2


@pytest.mark.skipif(os.name != "posix", reason="sends a signal")
def test_an_interruption_during_imports_is_one_line(tmp_path):
    # A module named h5py, which pydnn imports, interrupts the process.
    (tmp_path / "h5py.py").write_text(
        "import signal; signal.raise_signal(signal.SIGINT); import nothing_more", encoding="utf-8"
    )
    argv = [sys.executable, "-c", PROGRAM, str(tmp_path), "doctor"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=300)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "pydnn: interrupted\n")


ONLY_POSIX = ("fork", "sysconf", "sched_getaffinity", "getuid", "geteuid", "O_NONBLOCK")


def test_a_training_needs_nothing_that_only_posix_has(tmp_path, monkeypatch, capsys):
    for name in ONLY_POSIX:
        monkeypatch.delattr(os, name, raising=False)
    monkeypatch.setitem(sys.modules, "resource", None)
    monkeypatch.setitem(sys.modules, "pwd", None)
    run = tmp_path / "run"
    data = saved_data(tmp_path)
    argv = ["train", "--data", data, "--iterations", "2", "--layers", "3", "--run", str(run)]
    assert main(argv) == 0, capsys.readouterr().err
    for argv in (["replay", run], ["doctor", run], ["resume", run, "--iterations", "3"]):
        assert main(list(map(str, argv))) == 0, capsys.readouterr().err
