"""A real Chromium, and a JupyterLab for it to open: what the browser tests share."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import pytest

from clepdg_lib.files import PROJECT
from course import OFFLINE

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
SCREENSHOTS = PROJECT / "build" / "screenshots"
AXE = PROJECT / "build" / "npm" / "node_modules" / "axe-core" / "axe.min.js"
# Settings of JupyterLab: all cells are in the page, and nothing pops up over them.
SETTINGS = {
    "@jupyterlab/notebook-extension/tracker": {"windowingMode": "none"},
    "@jupyterlab/apputils-extension/notification": {
        "fetchNews": "false",
        "checkForUpdates": False,
        "doNotDisturbMode": True,
    },
}


def skip_or_fail(reason: str) -> None:
    """Skip, unless a browser is required (as in `.ci/run`)."""
    if os.environ.get("CLEPDG_BROWSER") == "required":
        pytest.fail(f"CLEPDG_BROWSER=required, but {reason}")
    pytest.skip(reason)


@contextmanager
def open_browser():
    """Yield a page of a headless Chromium with a microphone that beeps.

    A page may use it once `page.context.grant_permissions` says so.
    """
    executable = next((path for b in BROWSERS if (path := shutil.which(b))), "")
    if not executable:
        skip_or_fail("no Chromium is installed: apt-get install chromium")
    from playwright.sync_api import sync_playwright

    arguments = ["--no-sandbox", "--disable-background-networking", "--mute-audio"]
    arguments.append("--use-fake-device-for-media-stream")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=arguments)
        page = browser.new_page(viewport={"width": 1280, "height": 1700})
        page.set_default_timeout(90_000)
        yield page
        browser.close()


@contextmanager
def open_lab(folder: Path, settings: Path):
    """Serve a folder in JupyterLab without a token; yield its address."""
    for name, values in SETTINGS.items():
        file = settings / f"{name}.jupyterlab-settings"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(values), encoding="utf-8")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = {
        "ServerApp.ip": "127.0.0.1",
        "ServerApp.port": port,
        "ServerApp.root_dir": folder,
        "ServerApp.allow_root": True,
        "IdentityProvider.token": "",
        "LabApp.user_settings_dir": settings,
        "LabApp.workspaces_dir": settings / "workspaces",
        "LabApp.expose_app_in_browser": True,
        "Application.log_level": 40,
    }
    command = [sys.executable, "-m", "jupyterlab", "--no-browser"]
    command += [f"--{name}={value}" for name, value in options.items()]
    python_path = [str(PROJECT), *filter(None, [os.environ.get("PYTHONPATH")])]
    server = subprocess.Popen(
        command,
        env={**os.environ, **OFFLINE, "PYTHONPATH": os.pathsep.join(python_path)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        address = f"http://127.0.0.1:{port}"
        wait_for(server, f"{address}/api/status")
        yield address
    finally:
        server.terminate()
        server.wait(timeout=30)


def wait_for(server: subprocess.Popen, address: str, *, seconds: float = 180) -> None:
    """Wait until a server answers, whatever it answers."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if server.poll() is not None:
            raise RuntimeError(f"the server stopped with status {server.returncode}")
        try:
            urllib.request.urlopen(address, timeout=5).close()
            return
        except urllib.error.HTTPError:
            return
        except OSError:
            time.sleep(0.3)
    raise TimeoutError(f"the server did not answer within {seconds:g} s")
