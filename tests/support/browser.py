"""A real browser for tests of the page: the machine's own Chromium, driven by Playwright."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from playwright.sync_api import Browser, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = [
    "--no-sandbox",  # of a container's root
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",  # a page that asks elsewhere gets nothing
]
REQUIRED = ("CI", "SALON_REQUIRE_BROWSER")


@contextmanager
def chromium() -> Iterator[Browser]:
    """A headless browser with a profile of its own; each `new_context` is another visitor."""
    with sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=find_browser(), args=FLAGS)


def find_browser() -> str:
    """Its path. Without one the test fails in continuous integration and is skipped elsewhere."""
    chosen = os.environ.get("SALON_BROWSER")
    found = chosen or next((path for name in NAMES if (path := shutil.which(name))), None)
    if found and shutil.which(found):
        return found
    reason = (
        f"SALON_BROWSER={chosen} is no program"
        if chosen
        else f"no browser on this machine ({', '.join(NAMES)})"
    )
    reason += ": install chromium, or name one in SALON_BROWSER"
    if any(os.environ.get(name) for name in REQUIRED):
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)
