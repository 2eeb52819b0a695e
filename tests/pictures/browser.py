"""A headless Chromium, driven over the DevTools protocol by a pipe: what the tests of
strata's pages and scripts/picture need of it, and nothing from outside Python's library.

https://chromedevtools.github.io/devtools-protocol/
"""

import base64
import json
import os
import pathlib
import select
import shutil
import struct
import subprocess
import tempfile
import time
import zlib

PROGRAMS = ("chromium-headless-shell", "chromium")
LIMIT_S = 240


def program():
    """The browser's path, or None."""
    return next(filter(None, map(shutil.which, PROGRAMS)), None)


class Browser:
    def __init__(self):
        to_browser, from_us = os.pipe()
        to_us, from_browser = os.pipe()
        self.home = tempfile.TemporaryDirectory(prefix="strata-browser-",
                                                ignore_cleanup_errors=True)

        def pipes():
            # DevTools reads from 3 and writes to 4.
            os.dup2(to_browser, 200)
            os.dup2(from_browser, 201)
            os.dup2(200, 3)
            os.dup2(201, 4)

        arguments = [program(), "--headless", "--remote-debugging-pipe", "--disable-gpu",
                     "--no-first-run", "--disable-background-networking", "--disable-extensions",
                     "--force-device-scale-factor=1", "--force-color-profile=srgb",
                     "--hide-scrollbars", "--disable-dev-shm-usage",
                     # Not for root, nor where a user may make no namespaces; the pages are ours.
                     "--no-sandbox",
                     "--host-resolver-rules=MAP * ~NOTFOUND",
                     "--user-data-dir=" + self.home.name]
        self.process = subprocess.Popen(
            arguments, preexec_fn=pipes, close_fds=False,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        os.close(to_browser)
        os.close(from_browser)
        self.to, self.back = from_us, to_us
        self.buffer, self.events, self.number = b"", [], 0

    def close(self):
        try:
            self.call("Browser.close")
            self.process.wait(10)
        except (OSError, RuntimeError, subprocess.TimeoutExpired):
            self.process.kill()
            self.process.wait()
        os.close(self.to)
        os.close(self.back)
        self.home.cleanup()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def receive(self, until):
        """The next message, None after the time `until`."""
        while b"\0" not in self.buffer:
            left = until - time.monotonic()
            if left <= 0 or not select.select([self.back], [], [], left)[0]:
                return None
            data = os.read(self.back, 1 << 20)
            if not data:
                raise RuntimeError("the browser has ended")
            self.buffer += data
        message, _, self.buffer = self.buffer.partition(b"\0")
        return json.loads(message)

    def call(self, method, session=None, **parameters):
        self.number += 1
        message = {"id": self.number, "method": method, "params": parameters}
        if session:
            message["sessionId"] = session
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self.to, data):]
        until = time.monotonic() + LIMIT_S
        while True:
            answer = self.receive(until)
            if answer is None:
                raise RuntimeError(method + ": no answer")
            if answer.get("id") != self.number:
                self.events.append(answer)
            elif "error" in answer:
                raise RuntimeError(method + ": " + answer["error"]["message"])
            else:
                return answer["result"]

    def wait_event(self, session, method):
        until = time.monotonic() + LIMIT_S
        while True:
            for event in self.events:
                if event.get("sessionId") == session and event.get("method") == method:
                    return event["params"]
            event = self.receive(until)
            if event is None:
                raise RuntimeError(method + ": did not come")
            self.events.append(event)


class Page:
    """A file in a tab of its own."""

    def __init__(self, browser, path, dark=False, width=1280, height=1000):
        self.browser, self.url = browser, pathlib.Path(path).absolute().as_uri()
        self.target = browser.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = browser.call("Target.attachToTarget", targetId=self.target,
                                    flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(domain + ".enable")
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height,
                  deviceScaleFactor=1, mobile=False)
        self.scheme(dark)
        self.call("Page.navigate", url=self.url)
        browser.wait_event(self.session, "Page.loadEventFired")

    def call(self, method, **parameters):
        return self.browser.call(method, self.session, **parameters)

    def close(self):
        self.browser.call("Target.closeTarget", targetId=self.target)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def scheme(self, dark):
        self.call("Emulation.setEmulatedMedia", features=[
            {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}])

    def evaluate(self, expression):
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True,
                           awaitPromise=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(expression[:60] + ": " + str(answer["exceptionDetails"].get("text")))
        return answer["result"].get("value")

    def mouse(self, x, y, click=False):
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
        for kind in ("mousePressed", "mouseReleased") if click else ():
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def key(self, name):
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=name, code=name,
                      **({"text": name} if len(name) == 1 else {}))

    def place(self, selector):
        """Scrolls an element into view; its left, top, width and height there."""
        return self.evaluate(
            "(() => { const e = document.querySelector(%s); e.scrollIntoView({block: 'center'});"
            "const r = e.getBoundingClientRect(); return [r.left, r.top, r.width, r.height]; })()"
            % json.dumps(selector))

    def screenshot(self, clip=None):
        """A PNG of what is in view, or of [left, top, width, height] of the whole page."""
        parameters = {"format": "png"}
        if clip:
            parameters.update(captureBeyondViewport=True, clip=dict(
                zip(("x", "y", "width", "height"), clip), scale=1))
        return base64.b64decode(self.call("Page.captureScreenshot", **parameters)["data"])

    def problems(self):
        """What the console has of errors, blocked content included."""
        found = []
        for event in self.browser.events:
            if event.get("sessionId") != self.session:
                continue
            method, said = event["method"], event["params"]
            if method == "Runtime.exceptionThrown":
                details = said["exceptionDetails"]
                found.append(details.get("exception", {}).get("description", details["text"]))
            elif method == "Runtime.consoleAPICalled" and said["type"] in ("error", "assert"):
                found.append("console." + said["type"])
            elif method == "Log.entryAdded" and said["entry"]["level"] == "error":
                found.append(said["entry"]["text"])
        return found

    def requests(self):
        """What it wanted from elsewhere."""
        urls = [event["params"]["request"]["url"] for event in self.browser.events
                if event.get("sessionId") == self.session
                and event["method"] == "Network.requestWillBeSent"]
        return [url for url in urls if url != self.url and not url.startswith("data:")]


def pixels(png):
    """(width, height, rows of RGB bytes) of an 8-bit PNG without interlacing (RFC 2083)."""
    at, data, header = 8, b"", None
    while at < len(png):
        length, kind = struct.unpack(">I4s", png[at:at + 8])
        body = png[at + 8:at + 8 + length]
        if kind == b"IHDR":
            header = struct.unpack(">IIBBBBB", body)
        elif kind == b"IDAT":
            data += body
        at += 12 + length
    width, height, depth, colour, _, _, interlaced = header
    if depth != 8 or colour not in (2, 6) or interlaced:
        raise ValueError("not such a PNG")
    n = 3 if colour == 2 else 4
    raw, before, rows = zlib.decompress(data), bytearray(width * n), []
    for y in range(height):
        start = y * (width * n + 1)
        kind, row = raw[start], bytearray(raw[start + 1:start + 1 + width * n])
        for i in range(width * n if kind else 0):
            left = row[i - n] if i >= n else 0
            up, corner = before[i], before[i - n] if i >= n else 0
            if kind == 1:
                guess = left
            elif kind == 2:
                guess = up
            elif kind == 3:
                guess = (left + up) // 2
            else:
                guess = min((abs(up - corner), 0, left), (abs(left - corner), 1, up),
                            (abs(left + up - 2 * corner), 2, corner))[2]
            row[i] = (row[i] + guess) & 255
        before = row
        rows.append(row if n == 3 else bytearray(b for i, b in enumerate(row) if i % 4 != 3))
    return width, height, rows
