"""The gallery in a real browser: from a prompt to pictures, a vote, and a link that draws them again."""

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlparse

import pytest
from playwright.sync_api import Browser, Page, Route, expect

from browser import chromium
from five_methods import EXAMPLES, METHODS, Running, serve, write_bundles
from salon.inference.provenance import read_record
from salon.params import load_params
from salon.paths import Paths
from salon.server.votes import BallotBox
from salon.tracking import runs
from tiny import write_tiny_params

PROMPT = "a rocket on a striped background"
PHONE = {"width": 360, "height": 740}
TOKEN = "open sesame"
PATIENCE_MS = 30_000


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return write_bundles(tmp_path_factory.mktemp("five"))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> runs.Store:
    root = tmp_path_factory.mktemp("store")
    write_tiny_params(root)
    return runs.open_store(load_params(root / "params.yaml"), Paths(root))


@pytest.fixture(scope="module")
def running(bundles: dict[str, Path], store: runs.Store) -> Iterator[Running]:
    votes = BallotBox(lambda: store, flush_seconds=0.05)
    with serve(bundles, votes) as running:
        yield running
    votes.close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


class Visitor:
    """A page in a profile of its own, and whatever went wrong in it."""

    def __init__(self, browser: Browser, url: str, **options: object) -> None:
        self.url = url
        self.context = browser.new_context(**{"reduced_motion": "reduce", **options})
        self.page: Page = self.context.new_page()
        self.page.set_default_timeout(PATIENCE_MS)
        self.requested: list[str] = []
        self.complaints: list[str] = []
        self.page.on("request", lambda request: self.requested.append(request.url))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on(
            "console",
            lambda message: self.complaints.append(message.text) if message.type == "error" else None,
        )

    def open(self, link: str = "") -> "Visitor":
        self.page.goto(f"{self.url}/{link}")
        self.wait_for_pictures()
        return self

    def wait_for_pictures(self, count: int = len(METHODS)) -> None:
        images = self.page.locator("#works[aria-busy=false] .frame img")
        expect(images).to_have_count(count, timeout=PATIENCE_MS)
        for image in images.all():
            expect(image).to_have_js_property("naturalWidth", 32)

    def ask(self, prompt: str, *, seed: int) -> None:
        self.page.get_by_label("What shall they draw?").fill(prompt)
        self.page.get_by_label("Seed").fill(str(seed))
        self.page.get_by_role("button", name="Draw", exact=True).click()
        expect(self.page.locator("#status")).to_contain_text(f"with seed {seed}.", timeout=PATIENCE_MS)
        self.wait_for_pictures()

    def pictures(self) -> dict[str, bytes]:
        """The files on the wall, downloaded, by the name that stands below."""
        files = {}
        for work in self.page.locator(".work").all():
            with self.page.expect_download() as download:
                work.locator("a[download]").first.click()
            files[work.locator(".name").inner_text()] = Path(download.value.path()).read_bytes()
        return files

    def overflow(self) -> int:
        """By how many pixels the page is wider than its window."""
        return self.page.evaluate("document.documentElement.scrollWidth - window.innerWidth")


@pytest.fixture
def visitor(browser: Browser, running: Running) -> Iterator[Visitor]:
    visitor = Visitor(browser, running.url)
    yield visitor
    visitor.context.close()


def digests(pictures: dict[str, bytes]) -> dict[str, str]:
    return {name: hashlib.sha256(content).hexdigest() for name, content in pictures.items()}


def test_from_a_prompt_to_a_vote_and_a_link_that_draws_the_same_pictures(
    browser: Browser, visitor: Visitor, running: Running, store: runs.Store
):
    visitor.open()
    visitor.ask(PROMPT, seed=7)
    page = visitor.page
    blind = visitor.pictures()
    assert sorted(blind) == ["A", "B", "C", "D", "E"]
    assert len(set(digests(blind).values())) == len(METHODS)
    wall = page.locator("#works").inner_html()
    assert not [
        name for name in METHODS if re.search(rf"\b{name}\b", wall)
    ]  # names are hidden, also from a look
    assert "version" not in wall

    page.get_by_role("button", name="B is the best").click()
    expect(page.locator("#works .vote")).to_have_count(0)
    named = visitor.pictures()
    assert set(named) == set(METHODS)
    assert sorted(digests(named).values()) == sorted(digests(blind).values())
    (winner,) = [name for name, content in named.items() if content == blind["B"]]
    expect(page.locator(".chosen .name")).to_have_text(winner)
    expect(page.locator("#status")).to_contain_text(f"You chose {winner}")
    expect(page.locator("#scores tbody tr").first).to_contain_text("1 of 1")
    for name, content in named.items():
        drawn = read_record(content, name=name).provenance
        assert (drawn.method, drawn.prompt, drawn.seed, drawn.model_version) == (name, PROMPT, 7, "1")
        card = page.locator(".work").filter(has_text=name)
        expect(card).to_contain_text(re.compile(r"version 1.*\d ms.*seed 7"))

    def counted() -> dict[str, float]:
        found = store.client.search_runs([store.experiment_id], "tags.`salon.stage` = 'votes'")
        return dict(found[0].data.metrics) if found else {}

    expected = {f"votes/{winner}_v1": 1.0, **{f"shown/{name}_v1": 1.0 for name in METHODS}}
    for _ in range(100):
        if counted() == expected:
            break
        page.wait_for_timeout(50)
    assert counted() == expected

    link = urlparse(page.url).fragment
    asked = parse_qs(link)
    assert (asked["prompt"], asked["seed"]) == ([PROMPT], ["7"])
    assert {key: value for key, (value,) in asked.items() if key.startswith("v.")} == {
        f"v.{name}": "1" for name in METHODS
    }
    other = Visitor(browser, running.url).open(f"#{link}")
    expect(other.page.locator("#status")).to_contain_text("The same versions as in the link")
    assert sorted(digests(other.pictures()).values()) == sorted(digests(blind).values())
    other.page.get_by_role("button", name="Show the names").click()
    assert digests(other.pictures()) == digests(named)
    other.context.close()

    visitor.page.reload()  # who has voted is not asked again
    visitor.wait_for_pictures()
    assert digests(visitor.pictures()) == digests(named)
    expect(visitor.page.locator(".chosen .name")).to_have_text(winner)
    assert visitor.complaints == []


def test_a_link_of_another_version_is_told(visitor: Visitor):
    visitor.open(f"#prompt={PROMPT}&seed=7&v.gan=4&v.clip=1&v.unclip=2")
    notes = visitor.page.locator("#notes")
    expect(notes).to_contain_text("The link was made with version 4 of gan; version 1 serves now")
    expect(notes).to_contain_text("No longer served, though the link was made with it: unclip.")
    expect(notes).to_contain_text("Not served yet when the link was made: vqvae, diffusion, dalle.")


def test_everything_by_keyboard(visitor: Visitor):
    visitor.open()
    keyboard = visitor.page.keyboard
    focus = "document.activeElement.id || document.activeElement.textContent.trim()"
    visited = []
    while len(visited) < 40 and (not visited or visited[-1] != "A is the best"):
        keyboard.press("Tab")
        visited.append(visitor.page.evaluate(focus))
        if visited[-1] == "prompt":
            keyboard.press("Control+A")
            keyboard.type("a pizza")
            keyboard.press("Enter")
            expect(visitor.page.locator("#asked")).to_have_text("a pizza")
            visitor.wait_for_pictures()
        outline = visitor.page.evaluate("getComputedStyle(document.activeElement).outlineWidth")
        assert outline == "3px", visited[-1]
    in_order = ["Skip to the pictures", "prompt", "draw", EXAMPLES[0], "seed", "shuffle", "count", "blind"]
    assert [name for name in visited if name in in_order] == in_order
    keyboard.press("Enter")
    expect(visitor.page.locator(".chosen")).to_have_count(1)
    focused = visitor.page.evaluate("document.activeElement.closest('.chosen') !== null")
    assert focused  # the reader of a screen goes on where the vote was


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_never_scrolls_sideways(browser: Browser, running: Running, scheme: str):
    visitor = Visitor(
        browser, running.url, viewport=PHONE, is_mobile=True, has_touch=True, color_scheme=scheme
    ).open()
    page = visitor.page
    seen = {"open": visitor.overflow()}
    page.get_by_text("Words the models know").tap()
    seen["words"] = visitor.overflow()
    page.get_by_label("Pictures each").select_option("4")
    visitor.wait_for_pictures(4 * len(METHODS))
    seen["several"] = visitor.overflow()
    page.get_by_role("button", name="C is the best").tap()
    expect(page.locator("#scores")).to_be_visible()
    seen["voted"] = visitor.overflow()
    page.get_by_label("Pictures each").select_option("1")
    page.get_by_label("What shall they draw?").fill("ракетарокет" * 30)
    page.get_by_role("button", name="Draw", exact=True).tap()
    expect(page.locator("#notes")).to_contain_text("Words never seen in training")
    seen["long word"] = visitor.overflow()
    page.get_by_label("Seed").fill("seven")
    page.get_by_role("button", name="Draw", exact=True).tap()
    expect(page.locator("#problem")).to_contain_text("The seed must be a whole number")
    seen["problem"] = visitor.overflow()
    assert set(seen.values()) == {0}, seen
    smallest = page.evaluate(
        "Math.min(...[...document.querySelectorAll('button, a[download], summary')]"
        ".filter((part) => part.offsetParent).map((part) => part.getBoundingClientRect().height))"
    )
    assert smallest >= 20  # a finger hits it
    visitor.context.close()


def test_nothing_is_asked_of_another_host(visitor: Visitor, running: Running):
    visitor.open()
    visitor.ask("сова на голубом фоне", seed=3)
    visitor.page.get_by_role("button", name="A is the best").click()
    expect(visitor.page.locator("#scores")).to_be_visible()
    assert {url for url in visitor.requested if not url.startswith((f"{running.url}/", "blob:"))} == set()
    assert visitor.complaints == []  # the content security policy would complain here


def test_examples_words_shuffle_and_smoothing(visitor: Visitor):
    page = visitor.open().page
    page.get_by_role("button", name=EXAMPLES[1]).click()
    expect(page.locator("#asked")).to_have_text(EXAMPLES[1])
    visitor.wait_for_pictures()
    before, linked = visitor.pictures(), page.url
    page.get_by_role("button", name="Shuffle").click()
    expect(page).not_to_have_url(linked)
    visitor.wait_for_pictures()
    assert not set(digests(before).values()) & set(digests(visitor.pictures()).values())

    page.get_by_label("What shall they draw?").fill("a zeppelin")
    expect(page.locator("#hint")).to_contain_text("Never seen in training: zeppelin.")
    page.get_by_text("Words the models know").click()
    page.get_by_role("button", name="striped", exact=True).click()
    expect(page.get_by_label("What shall they draw?")).to_have_value("a zeppelin striped")

    image = page.locator(".frame img").first
    expect(image).to_have_css("image-rendering", "pixelated")
    page.get_by_label("Smooth pixels").check()
    expect(image).to_have_css("image-rendering", "auto")


def test_a_download_is_named_and_says_what_made_it(visitor: Visitor):
    visitor.open().ask("an owl", seed=3)
    with visitor.page.expect_download() as download:
        visitor.page.get_by_role("link", name="Download the picture by A").click()
    assert re.fullmatch(r"salon-A-seed\d+\.png", download.value.suggested_filename)
    read_record(Path(download.value.path()).read_bytes(), name="the download")


def test_a_busy_server_is_asked_again_and_a_refusal_is_told(visitor: Visitor):
    page = visitor.open().page
    answers: list[str] = []

    def busy_once(route: Route) -> None:
        if answers:
            route.continue_()
            return
        answers.append("busy")
        body = '{"error_code": "TEMPORARILY_UNAVAILABLE", "message": "the queue is full: try again in 1 s"}'
        route.fulfill(status=503, headers={"Retry-After": "1"}, content_type="application/json", body=body)

    page.route("**/invocations", busy_once)
    page.get_by_label("What shall they draw?").fill(PROMPT)
    page.get_by_role("button", name="Draw", exact=True).click()
    expect(page.locator("#problem")).to_contain_text(
        "The queue is full: try again in 1 s. This page tries again"
    )
    expect(page.locator("#asked")).to_have_text(PROMPT)
    expect(page.locator("#problem")).to_be_hidden()
    visitor.wait_for_pictures()

    page.get_by_label("What shall they draw?").fill("  ")
    page.get_by_role("button", name="Draw", exact=True).click()
    expect(page.locator("#problem")).to_have_text(re.compile("Say what to draw first"))
    page.evaluate("document.getElementById('prompt').value = 'an owl \\ud83d'")
    page.get_by_role("button", name="Draw", exact=True).click()
    expect(page.locator("#problem")).to_contain_text("The prompt holds characters that are not text.")
    page.route("**/invocations", lambda route: route.abort())
    page.get_by_label("What shall they draw?").fill("an owl")
    page.get_by_role("button", name="Draw", exact=True).click()
    expect(page.locator("#problem")).to_contain_text("The server does not answer.")


def test_a_server_with_a_token_asks_once(browser: Browser, bundles: dict[str, Path], store: runs.Store):
    votes = BallotBox(lambda: store, flush_seconds=0.05)
    with serve(bundles, votes, token=TOKEN) as guarded:
        visitor = Visitor(browser, guarded.url)
        page = visitor.page
        page.goto(guarded.url)
        page.get_by_label("Token", exact=True).fill("wrong")
        page.get_by_role("button", name="Enter").click()
        expect(page.locator("#gate-why")).to_have_text("The server refused that token.")
        page.get_by_label("Token", exact=True).fill(TOKEN)
        page.keyboard.press("Enter")
        visitor.wait_for_pictures()
        page.reload()
        visitor.wait_for_pictures()
        page.get_by_role("button", name="A is the best").click()
        expect(page.locator("#scores")).to_be_visible()
        visitor.context.close()
    votes.close()
