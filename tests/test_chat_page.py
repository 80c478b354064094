"""The chat page in a headless browser, against a live server."""

import json
import shutil

import pytest

import cairn
from cairn.retrieval.tools import TOOLS
from live import running, wait_until
from taught import GREETING, taught

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking"]
HOSTILE = "<img src=x onerror=\"document.title='gone'\"><script>document.title='gone'</script>"


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def base():
    with running(tools=TOOLS) as address:
        yield address


@pytest.fixture
def page(browser):
    """A new page; whatever the browser complains about fails the test, refusals of the server excepted."""
    context = browser.new_context(viewport={"width": 1100, "height": 760})
    page = context.new_page()
    page.set_default_timeout(15_000)
    complaints = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda line: complaints.append(line.text) if line.type in ("error", "warning") else None)
    yield page
    assert [c for c in complaints if "status of 4" not in c] == []
    context.close()


def ask(page, text, *, temperature=0.0):
    page.evaluate(
        "value => { const t = document.getElementById('temperature'); t.value = value;"
        " t.dispatchEvent(new Event('input', { bubbles: true })); }",
        str(temperature),
    )
    page.fill("#question", text)
    page.keyboard.press("Enter")


def answered(page, count=1):
    """The words of the last answer, when `count` of them are whole."""
    page.wait_for_function(
        "count => { const all = document.querySelectorAll('.assistant'); return all.length === count &&"
        " !all[count - 1].hasAttribute('aria-busy') && document.getElementById('send').textContent === 'Send'; }",
        arg=count,
    )
    return page.locator(".assistant .words").last.inner_text()


def test_it_answers_and_goes_on(page, base):
    page.goto(base)
    assert page.locator("#model").inner_text() == "tiny"
    ask(page, "Hello")
    assert answered(page) == GREETING
    assert "tokens" in page.locator(".assistant .under").inner_text()
    ask(page, "What is 12*7?")
    assert answered(page, 2).startswith("Let me see.")  # the server's own tool ran; no call is shown
    assert "<|call|>" not in page.locator("#log").inner_text()
    page.click("#new")
    assert page.locator(".turn").count() == 0
    assert page.locator("#hello").is_visible()


def test_it_streams_and_stops_and_frees_the_server(page):
    engine = cairn.Engine(*taught(), slots=2)
    with running(engine=engine, slow=0.2) as base:
        page.goto(base)
        ask(page, "Hello", temperature=0)
        page.wait_for_selector(".assistant[aria-busy] .token")
        assert page.locator("#send").inner_text() == "Stop"
        page.click("#send")
        words = answered(page)
        assert GREETING.startswith(words)
        assert len(words) < len(GREETING)
        assert "stopped" in page.locator(".assistant .under").inner_text()
        wait_until(lambda: not engine.has_work())
        page.goto("about:blank")


def test_regenerating_replaces_the_last_answer(page, base):
    page.goto(base)
    ask(page, "Hello", temperature=2)
    answered(page)
    with page.expect_request("**/v1/chat/completions") as sent:
        page.click("text=Regenerate")
    assert sent.value.post_data_json["messages"] == [{"role": "user", "content": "Hello"}]
    answered(page)
    assert page.locator(".user").count() == page.locator(".assistant").count() == 1


def test_an_earlier_message_can_be_written_anew(page, base):
    page.goto(base)
    ask(page, "What is 12*7?")
    answered(page)
    ask(page, "Hello")
    answered(page, 2)
    page.locator(".user >> text=Edit").first.click()
    assert page.locator("#question").input_value() == "What is 12*7?"
    page.keyboard.press("Escape")
    assert page.locator(".turn").count() == 4  # nothing is lost by looking
    page.locator(".user >> text=Edit").first.click()
    ask(page, "Hello")
    assert answered(page) == GREETING
    assert page.locator(".turn").count() == 2


def test_settings_reach_the_request_and_stay(page, base):
    page.goto(base)
    page.click("#open")
    for name, value in {"system": "Be kind.", "top_k": "5", "max_tokens": "3", "seed": "7", "stop": "##"}.items():
        page.fill(f"#{name}", value)
    page.fill("#repetition_penalty", "1.1")
    with page.expect_request("**/v1/chat/completions") as sent:
        ask(page, "Hello", temperature=1.5)
    body = sent.value.post_data_json
    messages = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hello"}]
    assert body == {
        "messages": messages,
        "stream": True,
        "logprobs": True,
        "top_logprobs": 5,
        "temperature": 1.5,
        "top_k": 5,
        "max_tokens": 3,
        "seed": 7,
        "stop": ["##"],
        "repetition_penalty": 1.1,
    }
    answered(page)
    assert "cut off" in page.locator(".assistant .under").inner_text()
    page.reload()
    assert page.locator("#system").input_value() == "Be kind."
    page.click("#open")
    page.select_option("#theme", "dark")
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"


def test_probabilities_are_shown_on_hover_and_by_keyboard(page, base):
    page.goto(base)
    ask(page, "Hello")
    answered(page)
    first = page.locator(".assistant .token").first
    first.hover()
    chances = page.locator("#chances")
    assert chances.is_visible()
    assert chances.locator("div").count() == 5
    shares = [float(share.replace("< ", "").removesuffix(" %")) for share in chances.locator("b").all_inner_texts()]
    assert shares == sorted(shares, reverse=True)
    assert shares[0] > 90
    assert chances.locator(".taken code").inner_text() == first.inner_text()
    page.mouse.move(5, 300)
    assert chances.is_hidden()
    page.locator(".assistant .words").focus()
    for _ in range(2):
        page.keyboard.press("ArrowRight")
    assert page.locator(".chosen").inner_text() == page.locator(".assistant .token").nth(1).inner_text()
    assert chances.is_visible()
    page.keyboard.press("Escape")
    assert chances.is_hidden()
    page.click("#open")
    page.check("#coloured")
    colour = first.evaluate("span => getComputedStyle(span).backgroundColor")
    assert colour != "rgba(0, 0, 0, 0)"


def test_words_are_never_markup(page, base):
    page.goto(base)

    def hostile(route):
        delta = {"delta": {"content": HOSTILE}, "finish_reason": "stop"}
        entry = {"token": HOSTILE, "logprob": -0.1, "bytes": [60], "top_logprobs": []}
        event = {"choices": [{"index": 0, "logprobs": {"content": [entry]}, **delta}]}
        route.fulfill(body=f"data: {json.dumps(event)}\n\ndata: [DONE]\n\n", content_type="text/event-stream")

    page.route("**/v1/chat/completions", hostile)
    ask(page, HOSTILE)
    assert answered(page) == HOSTILE
    assert page.locator(".user .words").inner_text() == HOSTILE
    page.locator(".token").hover()
    assert "<img" in page.locator("#chances").inner_text()
    assert page.locator("#log img, #log script, #chances img").count() == 0
    assert page.title() == "cairn"


def test_a_key_is_asked_for_and_errors_are_said(page):
    with running(keys=["s3cret"]) as base:
        page.goto(base)
        page.fill("#asked-key", "wrong")
        page.keyboard.press("Enter")
        page.wait_for_function("() => document.getElementById('asked-key').value === ''")
        page.fill("#asked-key", "s3cret")
        page.keyboard.press("Enter")
        page.wait_for_function("() => document.getElementById('model').textContent === 'tiny'")
        ask(page, "Hello")
        assert answered(page) == GREETING
        page.click("#new")
        ask(page, "long " * 200)
        page.wait_for_selector(".error")
        assert "at most 160" in page.locator(".error").inner_text()
        assert page.locator("#question").input_value().startswith("long")  # to be shortened
        page.goto("about:blank")


def test_it_fits_a_phone(browser, base):
    context = browser.new_context(viewport={"width": 360, "height": 640}, color_scheme="dark", has_touch=True)
    page = context.new_page()
    page.goto(base)
    ask(page, "Hello " * 20)
    answered(page)
    wide = "document.documentElement.scrollWidth > innerWidth"
    assert not page.evaluate(wide)
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    page.locator(".token").first.tap()
    assert page.locator("#chances").is_visible()
    page.tap("#open")
    assert page.locator("#system").is_visible()
    assert not page.evaluate(wide)
    for control in page.locator("button:visible, input:visible, textarea:visible, select:visible").all():
        assert control.evaluate("e => Boolean(e.labels?.length || e.textContent.trim() || e.ariaLabel)")
    context.close()
