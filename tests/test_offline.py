"""Nothing is asked of a network, and nothing is left outside project and cache."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest

from clepdg_lib.files import PROJECT

WATCHED = PROJECT / "tests" / "soak" / "watched.py"


@pytest.fixture
def home(tmp_path):
    """A home of the test's own, so that everything written there is seen."""
    for name in ("home", "work"):
        (tmp_path / name).mkdir()
    return tmp_path / "home"


def environment(home, **more):
    # TORCHINDUCTOR: what torch, loaded into the tests, tells its children.
    other = ("CLEPDG", "XDG", "TORCHINDUCTOR")
    kept = {k: v for k, v in os.environ.items() if not k.startswith(other)}
    kept |= {"HOME": str(home), "OMP_NUM_THREADS": "1", "TMPDIR": str(home / "tmp")}
    kept["PYTHONDONTWRITEBYTECODE"] = "1"
    return {**kept, **more}


def watched(code, home, *allowed):
    """Run code below the watch; returns what the watch saw."""
    head = f"import sys; sys.path.insert(0, {str(WATCHED.parent)!r})\n"
    head += "import watched; from pathlib import Path\n"
    head += f"watched.watch([Path(p) for p in {[str(a) for a in allowed]!r}])\n"
    tail = "\nprint('SEEN', *watched.seen, sep='|')"
    run = subprocess.run(
        [sys.executable, "-c", head + code + tail],
        **{"capture_output": True, "text": True, "env": environment(home)},
        cwd=home,
    )
    assert run.returncode == 0, run.stderr
    return [s for s in run.stdout.split("SEEN")[1].strip().split("|") if s]


def test_the_whole_work_needs_no_network_and_keeps_to_its_places(
    home, tmp_path, tiny_clap_folder
):
    from soak.tiny import make_corpus

    clips = tmp_path / "clips"
    table = make_corpus(clips, n_each=2).clips
    table.to_csv(clips / "clips.csv", index=False)
    words = [sys.executable, str(WATCHED), str(tiny_clap_folder), str(clips)]
    (home / "tmp").mkdir()
    # The project is not among them: working through a lesson writes nothing there.
    allowed = [str(home / ".cache"), str(home / ".config"), str(home / "tmp")]
    run = subprocess.run(
        [*words, *allowed],
        **{"capture_output": True, "text": True, "cwd": tmp_path / "work"},
        env=environment(home),
    )
    assert run.returncode == 0, run.stdout[-3000:] + run.stderr[-3000:]
    assert list((tmp_path / "work").iterdir()) == []
    # Nothing of an upload either; torch leaves an empty folder.
    assert [p for p in (home / "tmp").rglob("*") if p.is_file()] == []
    assert set(os.listdir(home)) <= {".cache", ".config", "tmp"}
    assert (home / ".cache" / "clepdg_lib" / "embeddings.sqlite").is_file()


@pytest.mark.parametrize(
    "attempt",
    [
        "import socket\nsocket.create_connection(('192.0.2.1', 80), timeout=0.1)",
        "import socket\nsocket.getaddrinfo('example.org', 80)",
        "import urllib.request\nurllib.request.urlopen('https://example.org')",
        "import requests\nrequests.get('https://example.org', timeout=1)",
        "open('stray.txt', 'w').write('x')",
        "Path('stray').mkdir()",
        "import os\nos.close(os.open('stray', os.O_CREAT | os.O_WRONLY))",
        "import sqlite3\nsqlite3.connect('stray.db').close()",
        "import os\nos.mkdir('stray', dir_fd=os.open('.', os.O_RDONLY))",
    ],
)
def test_the_watch_sees_an_attempt(home, tmp_path, attempt):
    body = "\n".join(f"    {line}" for line in attempt.splitlines())
    code = f"try:\n{body}\nexcept Exception: pass"
    assert watched(code, home, tmp_path / "work") != []


def test_the_watch_lets_its_places_alone(home, tmp_path):
    code = f"open({str(tmp_path / 'work' / 'a.txt')!r}, 'w').close(); open('/dev/null')"
    assert watched(code, home, tmp_path / "work") == []
    # A name inside of an open folder is not one beside whoever works there.
    code = f"import os; f = os.open({str(tmp_path / 'work')!r}, os.O_RDONLY)\n"
    code += "os.mkdir('here', dir_fd=f); os.rmdir('here', dir_fd=f)\n"
    code += "os.symlink('a', 'b', dir_fd=f); os.remove('b', dir_fd=f)"
    assert watched(code, home, tmp_path / "work") == []


def test_the_tests_themselves_reach_nothing_but_this_machine():
    with pytest.raises(OSError, match="tests have no network"):
        socket.create_connection(("192.0.2.1", 80), timeout=0.1)
    with pytest.raises(OSError, match="tests have no network"):
        socket.getaddrinfo("example.org", 80)


def test_the_course_asks_for_no_network():
    makefile = (PROJECT / "Makefile").read_text(encoding="utf-8")
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        assert re.search(rf"^course test.*: export {name} = 1$", makefile, flags=re.M)


# ------------------------------------------------------------------ JupyterLab
def lab_command():
    makefile = (PROJECT / "Makefile").read_text(encoding="utf-8")
    return re.search(r"^lab:.*\n\t\$\(BIN\)/jupyter (lab.*)$", makefile, flags=re.M)[1]


def test_the_lab_listens_here_only_and_wants_its_token():
    command = lab_command()
    assert "--ip=127.0.0.1" in command
    assert not re.search(r"token|password|allow.origin|xsrf|0\.0\.0\.0", command)


@pytest.mark.skipif(shutil.which("ss") is None, reason="no way to see who listens")
def test_a_running_lab_refuses_whoever_has_no_token(home, tmp_path):
    words = lab_command().split()[:-1]  # all but the notebook to open
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = subprocess.Popen(
        [
            *(sys.executable, "-m", "jupyter", *words),
            *(f"--port={port}", "--port-retries=0", "--no-browser", "--allow-root"),
        ],
        env=environment(home, JUPYTER_RUNTIME_DIR=str(home / "runtime")),
        **{"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL},
        cwd=tmp_path / "work",
    )
    try:
        listening = wait_for(port)
        assert set(listening) == {f"127.0.0.1:{port}"}
        address = f"http://127.0.0.1:{port}/api/contents"
        with pytest.raises(urllib.error.HTTPError) as refusal:
            urllib.request.urlopen(address, timeout=10)
        assert refusal.value.code == 403
        (about,) = (home / "runtime").glob("jpserver-*.json")
        token = json.loads(about.read_text())["token"]
        assert len(token) >= 32
        asked = urllib.request.Request(
            address, headers={"Authorization": f"token {token}"}
        )
        assert urllib.request.urlopen(asked, timeout=10).status == 200
    finally:
        server.terminate()
        server.wait(timeout=20)


def wait_for(port):
    """Addresses that listen on a port, as soon as there are any."""
    for _ in range(600):
        told = subprocess.run(["ss", "-Hltn"], capture_output=True, text=True).stdout
        places = [line.split()[3] for line in told.splitlines()]
        if found := [place for place in places if place.endswith(f":{port}")]:
            return found
        time.sleep(0.1)
    raise AssertionError("JupyterLab does not listen")
