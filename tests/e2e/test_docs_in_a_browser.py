"""The documents in a real browser on a real server: what they show works, and no other machine is asked."""

import re
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import sync_playwright
from skl2onnx import to_onnx
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

FLAGS = ["--no-sandbox", "--disable-background-networking", "--disable-component-update", "--disable-sync"]
FLAGS += ["--no-first-run", "--disable-quic"]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """Address of a server of the iris model on a free port."""
    data, target = load_iris(return_X_y=True)
    model = LogisticRegression(max_iter=500).fit(data, target)
    artefact = tmp_path_factory.mktemp("models") / "iris.onnx"
    artefact.write_bytes(to_onnx(model, data[:1].astype("float32")).SerializeToString())
    command = [Path(sys.executable).with_name("inferd"), "serve", artefact, "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None
        seen = []
        for line in process.stdout:
            seen.append(line)
            if found := re.search(r"Listening on (http://[\d.]+:\d+)", line):
                break
        else:
            pytest.fail("the server did not start:\n" + "".join(seen))
        yield found[1]
        process.terminate()


@pytest.fixture(scope="module")
def browser():
    """The system's Chromium."""
    executable = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def page(browser, server):
    """A page that fails the test when a script has an error, or when anyone but the server has answered a request."""
    context = browser.new_context()
    page = context.new_page()
    page.set_default_timeout(60_000)  # also while the machine is busy with other things
    answered, errors = [], []
    page.on("response", lambda response: answered.append(response.url))
    page.on("pageerror", lambda error: errors.append(error))
    yield page
    assert errors == []
    assert answered
    # What a page's policy blocks has no response; data: and blob: addresses have no host.
    assert {urlsplit(url).netloc for url in answered} - {""} == {urlsplit(server).netloc}
    context.close()


def test_predict_executed_untouched_from_the_docs_answers_200(page, server):
    page.goto(f"{server}/docs")
    operation = page.locator(".opblock", has=page.locator("[data-path='/predict']"))
    operation.locator(".opblock-summary-control").click()
    operation.get_by_role("button", name="Try it out").click()
    assert '"instances"' in operation.locator("textarea").input_value()
    with page.expect_response("**/predict") as answer:
        operation.get_by_role("button", name="Execute").click()
    assert answer.value.status == 200
    predictions = answer.value.json()["predictions"]
    assert predictions[0]["label"] in (0, 1, 2)
    live = operation.locator(".live-responses-table tbody .response-col_status").first
    live.wait_for()
    assert "200" in live.inner_text()


def test_every_prediction_of_the_docs_works_untouched(page, server):
    page.goto(f"{server}/docs")
    predictions = page.locator(".opblock-post", has=page.locator("[data-path$='/predict']"))
    predictions.first.wait_for()
    assert predictions.count() >= 3
    for operation in predictions.all():
        operation.locator(".opblock-summary-control").click()
        operation.get_by_role("button", name="Try it out").click()
        with page.expect_response(lambda response: response.request.method == "POST") as answer:
            operation.get_by_role("button", name="Execute").click()
        assert answer.value.status == 200
        operation.locator(".opblock-summary-control").click()


def test_redoc_shows_the_models_routes_without_its_makers(page, server):
    blocked, asked = [], []
    page.on("requestfailed", lambda request: blocked.append(request.url))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(f"{server}/redoc")
    page.get_by_text("/models/iris/predict").first.click()
    page.get_by_role("heading", name="Predict with iris").first.wait_for()
    elsewhere = {url for url in asked if urlsplit(url).netloc not in ("", urlsplit(server).netloc)}
    assert elsewhere <= set(blocked)
