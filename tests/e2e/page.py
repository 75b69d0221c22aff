"""The page as a reader sees it, and the hub behind it."""

import itertools
import json
import time

from bridge import wait_until


class Page:
    """browser shows the page of bridge's monitor; publish sends what a worker would send to hub."""

    def __init__(self, browser, bridge, hub):
        self.browser = browser
        self.bridge = bridge
        self.hub = hub
        self.spool = "0123456789abcdef" * 2
        self.numbers = itertools.count(1)
        self.url = f"http://127.0.0.1:{bridge.http_port}/" if bridge else None

    def show(self, fragment=""):
        self.browser.get(f"{self.url}{fragment}")
        return self

    def open(self, fragment=""):
        self.show(fragment)
        self.wait_text("#hub-state", "live")
        return self

    # The hub.

    def document(self, topic, payload, number=None, spool=None, received_at=None, **more):
        """A message document as the bridge writes it; payload is JSON text."""
        number = next(self.numbers) if number is None else number
        now = time.time()
        received_at = received_at or time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now % 1 * 1e6):06d}Z"
        members = [("id", json.dumps(f"{spool or self.spool}-{number}")), ("topic", json.dumps(topic)),
                   ("payload", payload), *((name, json.dumps(value)) for name, value in more.items()),
                   ("receivedAt", json.dumps(received_at))]
        return "{" + ",".join(f'"{name}":{value}' for name, value in members) + "}"

    def publish(self, topic, payload, fields=None, **options):
        """fields: more of the update, such as its type."""
        document = self.document(topic, payload, **options)
        update = {"id": f"urn:mqtt-bridge:{json.loads(document)['id']}", **(fields or {})}
        assert self.hub.publish(topic, document, **update)[0] == 200
        return document

    # The page.

    def text(self, selector):
        return self.browser.execute_script("return document.querySelector(arguments[0])?.innerText ?? null", selector)

    def wait_text(self, selector, part, timeout=10):
        return wait_until(lambda: part in (found := self.text(selector) or "") and found, timeout,
                          lambda: f"{part!r} in {selector}: {self.text(selector)!r}")

    def wait_ready(self, timeout=10):
        """Waits until the page says that the bridge is ready; "not ready" contains that word as well."""
        self.wait_text('#bridge-state[data-health="good"]', "ready", timeout)

    def alarms(self):
        """The texts that the page shows in red."""
        return self.browser.execute_script("""
            return [...document.querySelectorAll('[data-health="bad"], .notices.bad')].map((each) => each.innerText)""")

    def rows(self):
        """The visible topic rows: path to (value, rate, age, count)."""
        return {path: tuple(cells) for path, *cells in self.browser.execute_script("""
            return [...document.querySelectorAll(".rows .row.topic")].filter((row) => row.style.display !== "none")
              .map((row) => [row.querySelector(".name").title, ...[...row.children].slice(1).map((cell) => cell.textContent)])
        """)}

    def value(self, topic):
        return self.rows().get(topic, (None,))[0]

    def wait_value(self, topic, value, timeout=10):
        wait_until(lambda: self.value(topic) == value, timeout, lambda: f"{topic} shows {value!r}: {self.rows()}")

    def groups(self):
        return self.browser.execute_script("""
            return [...document.querySelectorAll(".rows .row.group")].filter((row) => row.style.display !== "none")
              .map((row) => row.querySelector(".name").textContent)""")

    def click(self, selector):
        self.browser.execute_script("document.querySelector(arguments[0]).click()", selector)

    def click_row(self, path):
        self.browser.execute_script("""
            [...document.querySelectorAll(".rows .row")].find((row) => row.style.display !== "none" &&
              row.querySelector(".name").title === arguments[0]).click()""", path)

    def search(self, text):
        self.browser.execute_script("""
            const field = document.querySelector("#search");
            field.value = arguments[0];
            field.dispatchEvent(new Event("input"));""", text)

    def press(self, key):
        self.browser.switch_to.active_element.send_keys(key)

    def module(self, name, body, *arguments):
        """Runs body with the named module as `m` and the arguments as `args`; returns its result."""
        result = self.browser.execute_async_script("""
            const [name, body, args, done] = arguments;
            import(name).then((m) => %s).then((value) => done({ value }), (error) => done({ error: String(error) }));
            """ % f"(function (m, args) {{ {body} }})(m, args)", name, "", list(arguments))
        assert "error" not in result, result["error"]
        return result["value"]

    def errors(self):
        return [entry["message"] for entry in self.browser.get_log("browser") if entry["level"] == "SEVERE"]
