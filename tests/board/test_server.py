import contextlib
import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from html.parser import HTMLParser
from urllib.parse import quote

import pytest
from small_board import HOSTILE, served
from small_runs import recorded, small_recipe

from pydnn.board import Board, make_server
from pydnn.checks import BadInput
from pydnn.cli import main
from pydnn.recipes.toml import toml_of
from pydnn.sweeps.planned import write_planned

posix = pytest.mark.skipif(os.name != "posix", reason="needs symbolic links")


class Parser(HTMLParser):
    """Collects the tags of a page and the addresses that it names."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.links, self.sources, self.styles, self.handlers = [], [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        attrs = dict(attrs)
        self.handlers += [name for name in attrs if name.startswith("on")]
        self.styles += [value for name, value in attrs.items() if name == "style"]
        self.links += [attrs["href"]] if tag == "a" and attrs.get("href") else []
        self.sources += [attrs[n] for n in ("src", "href") if n in attrs and tag != "a"]


def pages(runs):
    name = quote(HOSTILE)
    return [
        "/", "/?q=adam&sort=cost&order=down", "/?q=%3Cscript%3E%22", "/run?run=0001",
        f"/run?run={name}", "/run?run=damaged", "/run?run=0001&log=1",
        f"/compare?run=0001&run={name}", "/step?run=0001&step=3", "/nowhere", "/run?run=nothing",
    ]  # fmt: skip


def test_every_page_is_whole_and_asks_nothing_of_others(client, runs):
    for target in pages(runs):
        reply = client.ask(target)
        parsed = Parser(reply.text)
        assert reply.text.startswith("<!doctype html>"), target
        assert parsed.tags.count("script") == 1, target  # its own, and none from a name
        assert parsed.tags.count("h1") == parsed.tags.count("main") == 1, target
        assert set(parsed.sources) == {"/board.js", "/board.css", "data:,"}, target
        assert not parsed.styles + parsed.handlers, target
        assert all(link.startswith(("/", "#")) for link in parsed.links), target
        assert "\x1b" not in reply.text, target
        assert len({tag for tag in re.findall(r'id="([^"]*)"', reply.text)}) == len(
            re.findall(r' id="([^"]*)"', reply.text)
        ), target


def test_links_of_a_page_lead_to_pages(client):
    seen, left = set(), ["/"]
    while left and len(seen) < 8:
        target = left.pop().partition("#")[0] or "/"
        if target in seen or target.startswith("/report"):
            continue
        seen.add(target)
        reply = client.ask(target)
        assert reply.status == 200, (target, reply.text)
        left += Parser(reply.text).links
    assert f"/run?run={quote(HOSTILE)}" in seen


def test_forms_name_runs_exactly(client):
    """Markup holds no control characters, but names of folders may."""
    values = re.findall(r'name="quoted-run" value="([^"]*)"', client.ask("/").text)
    assert len(values) == 4
    query = "&".join(f"quoted-run={quote(value)}" for value in values)
    assert "4 runs side by side" in client.ask(f"/compare?{query}").text
    assert "Step 2 of" in client.ask(f"/step?quoted-run={quote(quote(HOSTILE))}&step=2").text


def test_texts_of_a_recipe_and_names_of_numbers_stay_texts(runs, tmp_path):
    shutil.copytree(runs / "0001", tmp_path / "run")
    bad = "<img src=x onerror=alert(1)>\"'\x1b[2J" * 500
    plain = {"data": bad, "iterations": 12, "network": [bad], "seed": bad, bad: 1}
    text = "".join(f"{toml_of(name) if name == bad else name} = {toml_of(value)}\n"
                   for name, value in plain.items())  # fmt: skip
    (tmp_path / "run" / "recipe.toml").write_text(text)
    (tmp_path / "run" / "live-0000000012.jsonl").write_text(
        json.dumps([12, 0.5, {bad: 1.0, f"validation {bad}": 1.0, "cost": 1e308}, []]) + "\n"
        + json.dumps([13, 0.5, {f"train {i}": 1.0 for i in range(900)}, [bad] * 900]) + "\n"
    )  # fmt: skip
    with served(tmp_path) as client:
        for target in ("/", "/run?run=run", "/compare?run=run", "/?q=img&sort=data"):
            reply = client.ask(target)
            assert reply.status == 200
            assert "&lt;img" in reply.text or target == "/"
            parsed = Parser(reply.text)
            assert "img" not in parsed.tags
            assert not parsed.handlers
            assert "\x1b" not in reply.text
            assert parsed.tags.count("figure") <= 41
            assert len(reply.text) < 1_000_000


def test_headers_let_a_page_do_nothing_else(client):
    for target in ("/", "/board.js", "/board.css", "/nowhere"):
        headers = client.ask(target).headers
        expect_safe(headers)
        assert "unsafe" not in headers["Content-Security-Policy"]
        assert "script-src 'self';" in headers["Content-Security-Policy"]


def expect_safe(headers):
    policy = headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; ")
    assert "frame-ancestors 'none'" in policy
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["Cache-Control"] == "no-store"
    assert "Access-Control-Allow-Origin" not in headers


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1", "127.0.0.1:1", "localhost", "127.0.0.1.evil:{port}",
             "[::1]:{port}", "", "localhost:{port}@evil"],
)  # fmt: skip
def test_another_host_is_refused(client, host):
    reply = client.ask("/", Host=host.format(port=client.port))
    assert reply.status == 403
    assert "0001" not in reply.text
    assert client.ask("/", Host=f"LOCALHOST:{client.port}").status == 200


def sent(client, text):
    """The first line of the answer to the bytes of a request."""
    with socket.create_connection(("127.0.0.1", client.port), timeout=30) as one:
        one.sendall(text.encode())
        one.shutdown(socket.SHUT_WR)
        return one.makefile("rb").read().decode().partition("\r\n")[0]


def test_requests_that_are_not_those_of_a_browser(client):
    host = f"Host: 127.0.0.1:{client.port}\r\n"
    assert " 200 " in sent(client, f"GET / HTTP/1.1\r\n{host}\r\n")
    assert " 403 " in sent(client, f"GET / HTTP/1.1\r\n{host}{host}\r\n")
    assert " 403 " in sent(client, "GET / HTTP/1.0\r\n\r\n")
    assert sent(client, "GET / a b\r\n\r\n") == "Bad request version ('b')\n"  # without headers
    assert " 414 " in sent(client, f"GET /{'a' * 70_000} HTTP/1.1\r\n{host}\r\n")
    assert " 404 " in sent(client, f"GET http://evil.example/x HTTP/1.1\r\n{host}\r\n")
    assert sent(client, "") == ""


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "X"])
def test_other_methods_are_refused(client, method):
    reply = client.ask("/", method=method)
    assert (reply.status, reply.headers["Allow"]) == (405, "GET, HEAD")
    assert reply.text == "the board answers GET and HEAD alone.\n"


def test_head_has_the_headers_alone(client):
    reply = client.ask("/board.js", method="HEAD")
    assert (reply.status, reply.text) == (200, "")
    assert int(reply.headers["Content-Length"]) == len(client.ask("/board.js").text.encode())


def test_another_page_gets_the_list_alone(client):
    for site in ("cross-site", "same-site"):
        assert client.ask("/", Sec_Fetch_Site=site).status == 200
        assert client.ask("/run?run=0001", Sec_Fetch_Site=site).status == 403
    assert client.ask("/run?run=0001", Sec_Fetch_Site="same-origin").status == 200


@pytest.mark.parametrize(
    "name", ["..", "../runs", "/etc", "0001/segments", "more", ".", "", "0001/", "./0001",
             "0001/../0001", "%00", "\\", "more%5C0002"],
)  # fmt: skip
def test_no_name_leads_out_of_the_folder(client, name):
    for page in ("/run", "/step", "/compare", "/report"):
        reply = client.ask(f"{page}?run={quote(name, safe='%')}&step=1")
        assert reply.status == 400
        assert "there is no run" in reply.text


@posix
def test_links_are_not_followed(runs, tmp_path):
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "linked").symlink_to(runs / "0001")
    (tmp_path / "runs" / "inside").mkdir()
    for name in ("recipe.toml", "segments"):
        (tmp_path / "runs" / "inside" / name).symlink_to(runs / "0001" / name)
    with served(tmp_path / "runs") as client:
        text = client.ask("/").text
        assert "linked" not in text
        assert "is a link or a file, expected a folder" in text
        assert client.ask("/run?run=linked").status == 400
        assert client.ask("/run?run=inside").status == 200
        assert client.ask("/report?run=inside").status == 400


def test_a_malformed_host_in_the_address_gets_one_line(runs):
    answer = Board(runs).answer("http://[/")
    assert answer.status == 400
    assert b"the address is not understood" in answer.content


def test_bad_queries_get_one_line(client):
    for target, words in {
        "/run": "has 0 values of run",
        "/run?run=0001&run=0001": "has 2 values of run",
        "/step?run=0001&step=x": "expected the number of a step",
        "/step?run=0001&step=-1": "expected the number of a step",
        "/step?run=0001&step=99": "there is no step 99",
        "/compare": "0 runs are selected",
        "/report": "no run is selected",
        "/?" + "a=1&" * 2000: "the address is not understood",
        "/compare?" + "&".join(f"run={i}" for i in range(30)): "30 runs are selected",
    }.items():
        reply = client.ask(target)
        assert reply.status == 400, target
        assert words in reply.text, target
        assert "Traceback" not in reply.text


def test_a_report_of_a_run(client):
    reply = client.ask("/report?run=0001")
    assert (reply.status, "Run 0001" in reply.text) == (200, True)
    expect_safe(reply.headers)
    assert "script-src" not in reply.headers["Content-Security-Policy"]


def test_reports_of_several_runs_and_of_a_sweep(runs, monkeypatch):
    asked = []
    for name in ("report_of_runs", "report_of_sweep"):
        monkeypatch.setattr(f"pydnn.reports.{name}", lambda what, **_: asked.append(what) or "done")
    board = Board(runs.parent)
    (runs / "sweep.toml").touch()
    try:
        assert b"report of runs" in board.answer("/").content
        names = ("runs/0001", "runs/more/0002")
        assert board.answer(f"/report?run={names[0]}&run={names[1]}").content == b"done"
        assert [run.path for run in asked.pop()] == [runs.parent / name for name in names]
        assert board.answer("/report?sweep=runs").content == b"done"
        assert asked == [runs]
        assert board.answer("/?sweep=runs").status == 200
        assert board.answer("/report?sweep=runs/more").status == 400
    finally:
        (runs / "sweep.toml").unlink()


def test_planned_trainings_are_listed_with_their_recipes(tmp_path):
    name = "seed-3-0123456789ab"
    (tmp_path / "sweep.toml").touch()
    write_planned(tmp_path, {name: f"iterations = 9\nseed = 3\ndata = {toml_of(HOSTILE)}"})
    board = Board(tmp_path)
    for target in ("/", "/?q=planned", "/?sort=state", f"/run?run={name}", f"/compare?run={name}"):
        text = board.answer(target).content.decode()
        assert "lanned" in text, target
        assert " days ago" not in text, target
        assert "<script>alert" not in text, target
        assert "0 of 9" in text or "/compare" in target, target
    assert "1 not begun" in board.answer("/").content.decode()
    assert "Report" not in board.answer(f"/run?run={name}").content.decode()
    assert board.answer(f"/report?run={name}").status == 400


def test_a_folder_that_is_a_run(runs):
    with served(runs / "0001") as client:
        assert "/run?run=0001" in client.ask("/").text
        assert client.ask("/run?run=0001").status == 200


def test_an_error_inside_is_an_answer(runs, monkeypatch):
    board = Board(runs)

    def fail(*args, **options):
        raise RuntimeError("<b>broken</b>")

    monkeypatch.setattr(board.catalog, "listing", fail)
    answer = board.answer("/")
    assert answer.status == 500
    assert b"RuntimeError: &lt;b&gt;broken" in answer.content
    assert board.answer("/run?run=0001").status == 200


def test_the_port_and_the_folder_are_refused_in_one_line(runs, capsys):
    with (
        make_server(Board(runs)) as server,
        pytest.raises(BadInput, match="cannot be used"),
        make_server(Board(runs), port=server.server_address[1]),
    ):
        pass
    for argv, words in (
        (["nowhere"], "nowhere does not exist, expected a folder of runs"),
        ([str(runs), "--port", "70000"], "--port is 70000"),
        ([str(runs / "0001" / "recipe.toml")], "is not a folder"),
    ):
        assert main(["board", *argv]) == 2
        text = capsys.readouterr().err
        assert text.count("\n") == 1
        assert words in text


def test_the_command_prints_its_address_and_ends_with_an_interruption(runs, capsys, monkeypatch):
    opened = []

    def interrupted(server, poll_interval):
        raise KeyboardInterrupt

    monkeypatch.setattr("pydnn.board.server._Server.serve_forever", interrupted)
    monkeypatch.setattr("webbrowser.open", opened.append)
    assert main(["board", str(runs), "--port", "0", "--open"]) == 0
    out = capsys.readouterr().out
    [address] = opened
    assert re.fullmatch(r"http://127\.0\.0\.1:[0-9]+/", address)
    assert address in out


@posix
@pytest.mark.slow
def test_a_process_of_its_own_ends_cleanly_with_ctrl_c(runs):
    script = (
        "import signal; from pydnn.cli import main; "
        "signal.signal(signal.SIGINT, signal.default_int_handler); raise SystemExit(main())"
    )
    argv = [sys.executable, "-c", script, "board", str(runs), "--port", "0"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as one:
        try:
            address = re.search(r"http://\S+", one.stdout.readline())[0]
            with urllib.request.urlopen(address, timeout=60) as reply:
                assert b"0001" in reply.read()
            one.send_signal(signal.SIGINT)
            out, err = one.communicate(timeout=60)
        finally:
            one.kill()
    assert (one.returncode, out, err) == (0, "ended\n", "")


def test_a_large_page_is_compressed_if_the_browser_takes_it(client):
    request = urllib.request.Request(
        f"http://127.0.0.1:{client.port}/run?run=0001", headers={"Accept-Encoding": "gzip"}
    )
    with urllib.request.urlopen(request, timeout=60) as reply:
        assert reply.headers["Content-Encoding"] == "gzip"
        assert reply.read(2) == b"\x1f\x8b"


def test_a_request_must_come_whole_in_time(runs, monkeypatch):
    monkeypatch.setattr("pydnn.board.server._HEAD", 0.1)
    with served(runs) as client, socket.create_connection(("127.0.0.1", client.port)) as slow:
        slow.settimeout(0.02)
        slow.sendall(b"GET / HTTP/1.1\r\nX: ")
        until = time.monotonic() + 20
        while time.monotonic() < until:
            try:
                slow.sendall(b"x")  # each byte comes soon after the one before
                assert slow.recv(1) == b""
                return
            except TimeoutError:
                pass
            except OSError:  # sent to a connection that is closed
                return
    pytest.fail("a client that trickles keeps its connection")


def test_connections_that_wait_keep_nobody_out(runs, monkeypatch):
    monkeypatch.setattr("pydnn.board.server._MOST_WAITING", 3)
    with served(runs) as client, contextlib.ExitStack() as stack:
        address = ("127.0.0.1", client.port)
        kept = stack.enter_context(
            contextlib.closing(http.client.HTTPConnection(*address, timeout=60))
        )
        idle = [stack.enter_context(socket.create_connection(address, 60)) for _ in range(3)]
        idle[1].sendall(b"GET / HTTP/1.1\r\n")
        for _ in range(2):
            kept.request("GET", "/board.css")
            reply = kept.getresponse()
            assert (reply.status, reply.read()[:1]) == (200, b":")
        assert idle[0].recv(1) == b""  # the one that has waited longest was closed


def test_rows_of_a_run_appear_while_it_trains(tmp_path):
    folder = tmp_path / "runs"
    recorded(folder / "run", small_recipe(tmp_path), steps=4)
    (folder / "run" / "end-0000000004.json").unlink()
    live = folder / "run" / "live-0000000004.jsonl"
    with served(folder) as client:
        assert "4 of 12" in client.ask("/").text
        live.write_text('[4, 1.0, {"cost": 0.625}, []]\n[5, 1.0, {"co')
        text = client.ask("/").text
        assert "5 of 12 steps" in text
        assert "Training now" in text
        assert "0.6250" in text
        with live.open("a") as file:
            file.write('st": 0.375}, []]\n')
        assert "6 of 12 steps" in client.ask("/run?run=run").text
        long_ago = time.time() - 3600
        for path in folder.rglob("*"):
            os.utime(path, (long_ago, long_ago))
        assert "no end, silent for 1 h" in client.ask("/").text
