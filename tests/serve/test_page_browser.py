"""The page in a real browser, on the embedded model: read, draw, compare, errors, a phone, accessibility.

`pytest -m long tests/serve/test_page_browser.py --screenshots docs/images` also writes the pictures of the documents.
"""

from __future__ import annotations

import base64
import io
import shutil
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
from PIL import Image

from serve.serving import Running, local
from unixcxr.phantom import PhantomFinding, sample_phantom
from unixcxr.sampling.engine import Engine, load_engine

webdriver = pytest.importorskip("selenium.webdriver", reason="no selenium; pip install '.[browser]'")
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.support.ui import WebDriverWait  # noqa: E402

BROWSER, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
WAIT_S = 120
AXE = "axe-core@4.11.0"
pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(
        not (BROWSER and DRIVER), reason="no chromium with its driver; make check-long installs it"
    ),
]


@pytest.fixture(scope="module")
def embedded() -> Engine:
    return load_engine("embedded")


@pytest.fixture(scope="module")
def site(embedded: Engine) -> Iterator[Running]:
    with local(embedded, max_pixels=4_000_000) as running:
        yield running


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    options = webdriver.ChromeOptions()
    options.binary_location = str(BROWSER)
    for argument in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        f"--user-data-dir={tmp_path_factory.mktemp('profile')}",
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    service = webdriver.ChromeService(executable_path=str(DRIVER))
    driver = webdriver.Chrome(options=options, service=service)
    yield driver
    driver.quit()


@pytest.fixture
def page(browser: webdriver.Chrome, site: Running) -> Iterator[webdriver.Chrome]:
    """Open the page afresh; when the test is over, nothing was asked of another origin and nothing went wrong."""
    browser.set_window_size(1280, 1000)
    browser.get(site.client.url)
    wait(browser, lambda: text(browser, "model") != "")
    yield browser
    asked = browser.execute_script("return performance.getEntriesByType('resource').map(e => e.name)")
    own = {urlsplit(site.client.url).netloc, ""}
    assert {urlsplit(url).netloc for url in asked} <= own
    serious = [
        entry["message"]
        for entry in browser.get_log("browser")
        # a refused upload is an answer of 4xx, which the browser itself logs
        if entry["level"] == "SEVERE" and "the server responded with a status of 4" not in entry["message"]
    ]
    assert serious == []


@pytest.fixture
def shoot(page: webdriver.Chrome, request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Write a screenshot when the run asks for them."""
    directory = request.config.getoption("--screenshots")

    def shoot(name: str) -> None:
        if directory:
            Path(directory).mkdir(parents=True, exist_ok=True)
            page.save_screenshot(str(Path(directory) / f"{name}.png"))

    return shoot


def wait(browser: webdriver.Chrome, condition: Callable[[], object]) -> None:
    WebDriverWait(browser, WAIT_S, poll_frequency=0.1).until(lambda _: condition())


def text(browser: webdriver.Chrome, element_id: str) -> str:
    return str(browser.find_element(By.ID, element_id).text)


def click(browser: webdriver.Chrome, element_id: str) -> None:
    browser.find_element(By.ID, element_id).click()


def choose(browser: webdriver.Chrome, element_id: str, *paths: Path) -> None:
    browser.find_element(By.ID, element_id).send_keys("\n".join(str(path) for path in paths))


def is_shown(browser: webdriver.Chrome, element_id: str) -> bool:
    return bool(browser.find_element(By.ID, element_id).is_displayed())


@pytest.fixture(scope="module")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("films") / "phantom.png"
    drawn = sample_phantom(7, 512, [PhantomFinding("effusion", side="right", size="large")])
    Image.fromarray(drawn.image).save(path)
    return path


def test_reading_streams_the_engine_s_report(
    page: webdriver.Chrome, embedded: Engine, phantom: Path, shoot: Callable[[str], None]
) -> None:
    choose(page, "files", phantom)
    wait(page, lambda: is_shown(page, "report-actions"))
    assert text(page, "report-text").split() == embedded.write_report(phantom).text.split()
    assert "Pleural Effusion" in text(page, "findings")
    assert "not calibrated" in text(page, "confidence")
    shoot("page_read")


def test_a_sentence_shows_where_the_text_looked(
    page: webdriver.Chrome, phantom: Path, shoot: Callable[[str], None]
) -> None:
    choose(page, "files", phantom)
    wait(page, lambda: is_shown(page, "report-actions"))
    overlay = page.find_elements(By.CSS_SELECTOR, "#read-viewer .tools label")[-1]
    assert not overlay.is_displayed()
    page.find_elements(By.CSS_SELECTOR, "#report-text button")[1].click()
    wait(page, overlay.is_displayed)
    shoot("page_explain")


def test_several_pictures_are_read_in_turn(page: webdriver.Chrome, phantom: Path, tmp_path: Path) -> None:
    other = tmp_path / "normal.png"
    Image.fromarray(sample_phantom(11, 256, []).image).save(other)
    choose(page, "files", phantom, other)
    wait(
        page,
        lambda: (
            len(page.find_elements(By.CSS_SELECTOR, "#queue button")) == 2
            and is_shown(page, "report-actions")
        ),
    )
    second = text(page, "report-text")
    page.find_elements(By.CSS_SELECTOR, "#queue button")[0].click()
    wait(page, lambda: text(page, "report-text") not in ("", second))


def test_window_zoom_and_invert_change_the_picture(page: webdriver.Chrome, phantom: Path) -> None:
    choose(page, "files", phantom)
    wait(page, lambda: is_shown(page, "report-actions"))
    pixel = "const c = document.querySelector('#read-viewer canvas');"
    pixel += "return Array.from(c.getContext('2d').getImageData(c.width / 2, c.height / 2, 1, 1).data)[0]"
    before = page.execute_script(pixel)
    page.find_element(By.XPATH, "//div[@id='read-viewer']//button[text()='Invert']").click()
    assert abs(page.execute_script(pixel) - (255 - before)) <= 1  # the canvas interpolates
    page.find_element(By.XPATH, "//div[@id='read-viewer']//button[text()='Reset']").click()
    assert page.execute_script(pixel) == before


@pytest.mark.parametrize(("name", "content"), [("notes.png", b"this is no picture"), ("empty.dcm", b"")])
def test_a_file_that_is_no_picture_is_named_in_one_line(
    page: webdriver.Chrome, tmp_path: Path, name: str, content: bytes
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    choose(page, "files", path)
    wait(page, lambda: text(page, "read-error"))
    assert "\n" not in text(page, "read-error")


def test_a_refused_picture_can_be_read_all_the_same(page: webdriver.Chrome, tmp_path: Path) -> None:
    path = tmp_path / "blank.png"
    Image.fromarray(np.full((256, 256), 90, np.uint8)).save(path)
    choose(page, "files", path)
    wait(page, lambda: "blank" in text(page, "read-error"))
    page.find_element(By.CSS_SELECTOR, "#read-error button").click()
    wait(page, lambda: is_shown(page, "report-actions"))


def test_drawing_forms_a_picture_and_reads_it_back(
    page: webdriver.Chrome, embedded: Engine, shoot: Callable[[str], None]
) -> None:
    click(page, "tab-draw")
    page.find_element(By.ID, "prompt").send_keys("Large right pleural effusion.")
    page.find_element(By.ID, "count").clear()
    page.find_element(By.ID, "count").send_keys("2")
    click(page, "draw")
    wait(page, lambda: "Step" in text(page, "draw-status"))
    wait(page, lambda: len(page.find_elements(By.CSS_SELECTOR, "#pictures figcaption")) == 2)
    source = page.find_element(By.CSS_SELECTOR, "#pictures img").get_attribute("src")

    shown = Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2])))
    ours = embedded.draw_image("Large right pleural effusion.", seed=0)
    assert np.abs(np.asarray(shown).astype(int) - np.asarray(ours.image)).max() <= 1
    assert "SYNTHETIC" in str(shown.info)
    page.find_element(By.XPATH, "//figcaption//button[text()='Read it back']").click()
    wait(page, lambda: "Pleural Effusion" in page.find_element(By.CSS_SELECTOR, "#pictures figcaption").text)
    shoot("page_draw")


def test_a_prompt_is_built_from_findings(page: webdriver.Chrome) -> None:
    click(page, "tab-draw")
    for element, value in (("finding", "pneumothorax"), ("side", "left"), ("severity", "small")):
        page.find_element(By.CSS_SELECTOR, f"#{element} option[value='{value}']").click()
    click(page, "add-finding")
    assert page.find_element(By.ID, "prompt").get_attribute("value") == "Small left pneumothorax."


def test_two_prompts_are_compared_from_one_seed(page: webdriver.Chrome, shoot: Callable[[str], None]) -> None:
    click(page, "tab-compare")
    page.find_element(By.ID, "prompt-left").send_keys("Normal chest.")
    page.find_element(By.ID, "prompt-right").send_keys("Severe cardiomegaly.")
    page.find_element(By.CSS_SELECTOR, "#compare-form button").click()
    brightness = "return [...document.querySelectorAll('#panel-compare canvas')].map(c => "
    brightness += "c.getContext('2d').getImageData(0, 0, c.width, c.height).data.reduce((a, b) => a + b, 0))"
    wait(page, lambda: len(set(page.execute_script(brightness))) == 2)
    wait(page, lambda: page.find_element(By.CSS_SELECTOR, "#compare-form button").is_enabled())
    shoot("page_compare")


@pytest.mark.parametrize("tab", ["read", "draw", "compare"])
def test_the_page_fits_a_phone(page: webdriver.Chrome, tab: str, shoot: Callable[[str], None]) -> None:
    page.set_window_size(500, 800)  # the narrowest window that the browser makes
    page.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": 360, "height": 760, "deviceScaleFactor": 1, "mobile": True},
    )
    click(page, f"tab-{tab}")
    assert page.execute_script("return document.documentElement.scrollWidth") <= 360
    shoot(f"page_phone_{tab}")
    page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_tabs_and_tools_work_by_keyboard(page: webdriver.Chrome) -> None:
    from selenium.webdriver.common.keys import Keys

    page.find_element(By.ID, "tab-read").send_keys(Keys.ARROW_RIGHT)
    assert page.switch_to.active_element.get_attribute("id") == "tab-draw"
    assert is_shown(page, "panel-draw")


@pytest.fixture(scope="module")
def axe(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the source of axe-core, from the npm registry."""
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("no npm to fetch axe-core with")
    home = tmp_path_factory.mktemp("axe")
    packed = subprocess.run([npm, "pack", AXE], cwd=home, capture_output=True, text=True, timeout=120)
    if packed.returncode:
        pytest.skip(f"axe-core cannot be fetched: {packed.stderr.strip().splitlines()[-1]}")
    with tarfile.open(next(home.glob("*.tgz"))) as archive:
        member = archive.extractfile("package/axe.min.js")
        assert member is not None
        return member.read().decode()


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("tab", ["read", "draw", "compare"])
def test_no_barrier_that_axe_knows(
    page: webdriver.Chrome, axe: str, phantom: Path, tab: str, theme: str
) -> None:
    page.execute_script(f"document.documentElement.dataset.theme = '{theme}'")
    click(page, f"tab-{tab}")
    if tab == "read":
        choose(page, "files", phantom)
        wait(page, lambda: is_shown(page, "report-actions"))
    page.execute_script(axe)
    found = page.execute_async_script("const done = arguments[0]; axe.run().then(r => done(r.violations))")
    assert [(v["id"], [n["target"] for n in v["nodes"]]) for v in found] == []
