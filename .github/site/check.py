"""Checks the site in a folder: its links, and in a browser, if one is named, every
page.

python check.py FOLDER [BROWSER]
"""

import json
import subprocess
import sys
import tempfile
import time
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit
from urllib.request import Request, urlopen

import websocket

WIDTHS = (1280, 360)
SOUGHT = "zero_grad"

# What is wrong with the page as it stands, a list of sentences.
LOOK = """(() => {
    const wrong = [];
    const room = document.documentElement.clientWidth;
    if (document.scrollingElement.scrollWidth > room) wrong.push("scrolls sideways");
    // What sticks out and can be scrolled to is well; the rest is cut off.
    for (const element of document.querySelectorAll("article *")) {
        if (element.getBoundingClientRect().right <= room + 1) continue;
        let box = element;
        while (box && !["auto", "scroll"].includes(getComputedStyle(box).overflowX))
            box = box.parentElement.closest("article *");
        if (box) continue;
        const text = element.textContent.slice(0, 40);
        wrong.push(`<${element.localName}> sticks out: ${text}`);
        break;
    }
    for (const image of document.images) {
        if (!image.complete || !image.naturalWidth)
            wrong.push(`not loaded: ${image.src}`);
        if (!image.alt || image.src.endsWith(image.alt))
            wrong.push(`no alt text: ${image.src}`);
    }
    for (const details of document.querySelectorAll("details"))
        if (!details.querySelector("summary") || details.children.length < 2)
            wrong.push("a details block is empty");
    return wrong;
})()"""


class Page(HTMLParser):
    """The anchors of a page, where it leads, and what it loads."""

    def __init__(self, path):
        super().__init__()
        self.anchors, self.leads, self.loads = {""}, [], []
        self.feed(path.read_text("utf-8"))

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.anchors.add(attributes.get("id", ""))
        if "src" in attributes:
            self.loads.append(attributes["src"])
        if "href" in attributes:
            (self.leads if tag == "a" else self.loads).append(attributes["href"])


def broken_links(site, pages):
    for path, page in pages.items():
        for target in page.leads + page.loads:
            parts = urlsplit(target)
            if parts.scheme or parts.netloc:
                if target in page.loads:
                    yield f"{path.relative_to(site)}: loads {target}"
                continue
            goal = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if not goal.is_file():
                yield f"{path.relative_to(site)}: no file {target}"
            elif goal in pages and unquote(parts.fragment) not in pages[goal].anchors:
                yield f"{path.relative_to(site)}: no anchor {target}"


class Browser:
    """One tab of a Chrome or Chromium without a window, and what it reports."""

    def __init__(self, program, profile):
        flags = [
            "--headless=new",
            "--no-sandbox",  # or root may not start it
            "--disable-dev-shm-usage",
            "--disable-gpu",
            "--disable-background-networking",
            "--no-first-run",
            "--remote-debugging-port=0",
            f"--user-data-dir={profile}",
        ]
        self.process = subprocess.Popen(
            [program, *flags, "about:blank"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        port = Path(profile) / "DevToolsActivePort"
        for _ in range(300):
            if port.exists() and "\n" in port.read_text():
                break
            time.sleep(0.1)
        number = port.read_text().split()[0]
        new = Request(f"http://127.0.0.1:{number}/json/new?about:blank", method="PUT")
        with urlopen(new) as answer:
            address = json.load(answer)["webSocketDebuggerUrl"]
        self.tab = websocket.create_connection(
            address, suppress_origin=True, timeout=30
        )
        self.count, self.events = 0, []
        for part in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{part}.enable")

    def call(self, method, **parameters):
        self.count += 1
        self.tab.send(
            json.dumps({"id": self.count, "method": method, "params": parameters})
        )
        while True:
            message = json.loads(self.tab.recv())
            if message.get("id") == self.count:
                if "error" in message:
                    raise RuntimeError(f"{method}: {message['error']['message']}")
                return message["result"]
            self.events.append(message)

    def value(self, expression):
        result = self.call(
            "Runtime.evaluate", expression=expression, returnByValue=True
        )
        return result["result"].get("value")

    def width(self, width):
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=900,
            deviceScaleFactor=1,
            mobile=False,
        )

    def open(self, address):
        self.events.clear()
        self.call("Page.navigate", url=address)
        while not any(
            event["method"] == "Page.loadEventFired" for event in self.events
        ):
            self.events.append(json.loads(self.tab.recv()))

    def complaints(self, root):
        for event in self.events:
            method, report = event["method"], event.get("params", {})
            if method == "Runtime.exceptionThrown":
                details = report["exceptionDetails"]
                yield details.get("exception", {}).get("description", details["text"])
            elif method == "Log.entryAdded" and report["entry"]["level"] == "error":
                yield report["entry"]["text"]
            elif method == "Runtime.consoleAPICalled" and report["type"] in (
                "error",
                "assert",
            ):
                yield f"console.error {report['args']}"
            elif method == "Network.loadingFailed" and not report.get("canceled"):
                yield f"not loaded: {report['errorText']}"
            elif method == "Network.requestWillBeSent":
                address = report["request"]["url"]
                if not address.startswith((root, "data:", "blob:")):
                    yield f"fetches {address}"

    def close(self):
        self.tab.close()
        self.process.terminate()
        self.process.wait()


def faults_seen(site, pages, program):
    root = site.as_uri()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        browser = Browser(program, profile)
        try:
            for path in pages:
                browser.width(WIDTHS[0])
                browser.open(path.as_uri())
                for width in WIDTHS:
                    browser.width(width)
                    for fault in browser.value(LOOK):
                        yield f"{path.relative_to(site)} at {width}: {fault}"
                for fault in browser.complaints(root):
                    yield f"{path.relative_to(site)}: {fault}"
            browser.open(f"{root}/search.html?q={SOUGHT}")
            found = 0
            for _ in range(100):
                found = browser.value(
                    "document.querySelectorAll('#search-results li a').length"
                )
                if found:
                    break
                time.sleep(0.1)
            if not found:
                yield f"the search does not find {SOUGHT}"
            yield from (f"search: {fault}" for fault in browser.complaints(root))
        finally:
            browser.close()


def main(site, program=None):
    site = Path(site).resolve()
    pages = {path: Page(path) for path in sorted(site.rglob("*.html"))}
    faults = list(broken_links(site, pages))
    said = f"{len(pages)} pages, every link within the site leads somewhere"
    if program:
        faults += faults_seen(site, pages, program)
        said += (
            f"; each opened at {' and '.join(map(str, WIDTHS))} pixels, {SOUGHT} found"
        )
    print("\n".join(faults) or said)
    if not program:
        print("no Chrome or Chromium on the PATH: the pages were not opened")
    return bool(faults)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
