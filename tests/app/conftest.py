"""What the page's tests share: a server on this machine with a tiny untrained model, and files to send to it."""

import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bcx.simulate import simulate
from bcx.simulate.examples import write_examples
from tests.conftest import linear, saved_untrained

WAIT = 20_000  # milliseconds for what a browser waits for; the machine may be busy


@pytest.hookimpl(tryfirst=True)  # before -m chooses among them
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Every test with a browser is slow."""
    for item in items:
        if "browser" in getattr(item, "fixturenames", ()):
            item.add_marker("slow")


@pytest.fixture(scope="session", autouse=True)
def _no_certificates(tmp_path_factory) -> Iterator[None]:
    """No test speaks TLS, and httpx would read every certificate again for each client."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("SSL_CERT_FILE", raising=False)
        patch.setenv("SSL_CERT_DIR", str(tmp_path_factory.mktemp("certificates")))
        yield


@dataclass
class Counting:
    """A classifier that counts how often it was asked; everything else is the real one's."""

    inner: object
    calls: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def predict(self, *args, **kwargs):
        with self.lock:
            self.calls += 1
        return self.inner.predict(*args, **kwargs)

    def __getattr__(self, name):
        return getattr(self.inner, name)


@dataclass(frozen=True)
class Server:
    """A running page: where it is, what answers, the folder in which uploads live, and the ASGI application."""

    url: str
    classifier: Counting
    temp: Path
    app: object

    def files(self) -> list[Path]:
        """Every file under the upload folder; some may vanish meanwhile."""
        return [Path(folder) / name for folder, _, names in os.walk(self.temp) for name in names]


def start(classifier, temp: Path, examples: Path, login=None) -> Iterator[Server]:
    """Serve the page around `classifier`, as `demo.py` does, on a free port of this machine."""
    patch = pytest.MonkeyPatch()
    patch.setenv("GRADIO_TEMP_DIR", str(temp))
    patch.setenv("GRADIO_HEARTBEAT_INTERVAL", "0.5")
    patch.delenv("GRADIO_SERVER_NAME", raising=False)
    from bcx.app.page import build_app
    from bcx.app.server import launch

    counting = Counting(classifier)
    app = build_app(counting, examples)
    served, url, _ = launch(app, login, prevent_thread_lock=True, quiet=True)
    yield Server(url, counting, temp, served)
    app.close(verbose=False)
    patch.undo()


@pytest.fixture(scope="session")
def examples(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("examples")
    write_examples(folder, (("normal", 1), ("benign", 1), ("malignant", 1)), size=(120, 150))
    return folder


@pytest.fixture
def examples_of_both(examples, tmp_path) -> Path:
    """Examples of two tasks, to be changed at will."""
    return with_patches(examples, tmp_path / "examples")


def with_patches(examples: Path, folder: Path) -> Path:
    """Copy examples of scans into a new folder, and add patches of tissue under their task's name."""
    shutil.copytree(examples, folder)
    write_examples(folder / "histology-idc", (("negative", 1), ("positive", 2)))
    return folder


@pytest.fixture(scope="session")
def cells_checkpoint(tmp_path_factory) -> Path:
    """A checkpoint folder as `tiny_checkpoint`, for patches of tissue."""
    folder = tmp_path_factory.mktemp("checkpoints") / "cells"
    return saved_untrained(folder, linear, "histology-idc", size=64, grey=False)


@pytest.fixture(scope="session")
def tiny(tiny_checkpoint):
    import bcx

    return bcx.load(str(tiny_checkpoint))


@pytest.fixture(scope="session")
def tiny_lesion(tiny_lesion_checkpoint):
    import bcx

    return bcx.load(str(tiny_lesion_checkpoint))


@pytest.fixture(scope="module")
def server(tiny, examples, tmp_path_factory) -> Iterator[Server]:
    yield from start(tiny, tmp_path_factory.mktemp("served"), examples)


@pytest.fixture(scope="module")
def lesion_server(tiny_lesion, examples, tmp_path_factory) -> Iterator[Server]:
    yield from start(tiny_lesion, tmp_path_factory.mktemp("lesion"), examples)


@pytest.fixture(scope="session")
def scans(tmp_path_factory) -> dict[str, Path]:
    """Simulated scans in formats that a browser could not show, and one file that is none."""
    folder = tmp_path_factory.mktemp("scans")
    grey = simulate("benign", 5, 110, 140).pixels
    deep = grey.astype(np.uint16) * 201 + np.arange(140, dtype=np.uint16)
    files = {name: folder / name for name in ("grey.png", "photo.jpg", "deep.tiff", "broken.png")}
    Image.fromarray(grey).save(files["grey.png"])
    Image.fromarray(simulate("malignant", 6, 130, 120).pixels).convert("RGB").save(files["photo.jpg"])
    Image.fromarray(deep).save(files["deep.tiff"])
    files["broken.png"].write_text("This is a letter, not a picture.")
    return files


@pytest.fixture
def upload(tmp_path):
    path = tmp_path / "my scan (1).png"
    Image.fromarray(simulate("malignant", 9, 140, 160).pixels).save(path)
    return path


def find_browser() -> str:
    """Return a Chromium, or skip; in CI a missing browser is a failure, since nobody would notice the skip."""
    for name in ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome"):
        if found := shutil.which(name):
            return found
    reason = "no Chromium here: apt-get install chromium (or your system's package), then run these tests again"
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="module")
def browser() -> Iterator:
    path = find_browser()
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        options = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        browser = playwright.chromium.launch(executable_path=path, args=options)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def context(browser):
    """One browser's pages, which share a cookie and what they have fetched, as tabs do."""
    return browser.new_context()


def opened(context, url: str, ready: str = "#classify-examples button") -> Iterator:
    """A page of its own, closed in the end."""
    page = context.new_page()
    page.set_viewport_size({"width": 1280, "height": 900})
    page.set_default_timeout(WAIT)
    page.strangers = []
    page.on("request", lambda request: note_stranger(page, request.url))
    page.on("console", lambda said: "Content Security Policy" in said.text and page.strangers.append(said.text))
    page.goto(url)
    page.wait_for_selector(ready)
    yield page
    page.close()
    assert page.strangers == [], "the page fetched from elsewhere, or was kept from something of its own"


@pytest.fixture
def page(context, server) -> Iterator:
    """A page of the module's `server`."""
    yield from opened(context, server.url)


def note_stranger(page, url: str) -> None:
    if not url.startswith(("http://127.0.0.1:", "data:", "blob:")):
        page.strangers.append(url)


def overlay_address(page, viewer: str) -> str:
    return page.locator(f"#{viewer}-slider img").nth(1).get_attribute("src")


def changed(page, viewer: str, before: str) -> str:
    page.wait_for_function(
        "([id, old]) => document.querySelectorAll(`#${id}-slider img`)[1]?.src !== old", arg=[viewer, before]
    )
    return overlay_address(page, viewer)


@pytest.fixture(scope="session")
def until() -> Callable[[Callable[[], bool]], bool]:
    """Wait for something to become true, and tell whether it did."""

    def wait(condition: Callable[[], bool], seconds: float = 20) -> bool:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if condition():
                return True
            time.sleep(0.1)
        return condition()

    return wait
