"""Chromium, headless, on the page that a real monitor serves.

browser       one for the run; what a test stored in it is gone for the next
page          the page, opened on a monitor of its own and the hub (to which the test publishes updates); the
              console must be free of errors at the end
make_page     make_page(hub=, settings=, ...).open(): on other servers; .show() where there is no hub. Without redis= it
              knows of no last values
"""

import shutil

import pytest
from bridge import wait_until
from page import Page

INSTALL = "apt-get install chromium chromium-driver python3-selenium"


def start_browser():
    try:
        from selenium import webdriver
        from selenium.webdriver.chrome.options import Options
        from selenium.webdriver.chrome.service import Service
    except ImportError:
        pytest.fail(f"selenium is missing: {INSTALL}")
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or driver is None:
        pytest.fail(f"Chromium is missing: {INSTALL}")
    options = Options()
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
                     "--window-size=1360,860"):
        options.add_argument(argument)
    options.binary_location = chromium
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    return webdriver.Chrome(service=Service(driver), options=options)


@pytest.fixture(scope="session")
def browser_program():
    browser = start_browser()
    browser.set_script_timeout(30)
    yield browser
    browser.quit()


@pytest.fixture
def browser(browser_program):
    yield browser_program
    browser_program.execute_script("localStorage.clear(); sessionStorage.clear()")
    browser_program.delete_all_cookies()
    browser_program.get("about:blank")
    browser_program.get_log("browser")


@pytest.fixture
def make_page(browser, make_bridge, hub):
    def make(hub=hub, settings=None, **parts):
        if "redis" not in parts:
            settings = {"page": {"last_values": 0}, **(settings or {})}
        bridge = make_bridge(hub=hub, settings=settings, **parts)
        monitor = bridge.run_program("monitor")
        wait_until(lambda: "Listening" in monitor.log() or not monitor.is_running(), 10, "the monitor listens")
        assert monitor.is_running(), monitor.log_tail()
        return Page(browser, bridge, hub)
    return make


@pytest.fixture
def page(make_page):
    page = make_page().open()
    yield page
    assert page.errors() == []
