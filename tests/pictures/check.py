#!/usr/bin/python3
"""strata's pages in a real browser: they render, pointing at a frame tells what inspect
tells, both colour schemes are readable, and nothing is asked of anybody. Prints TAP.

    check.py FOLDER     with the files that tests/pictures/pages.sh has made

Each check has a control: a page that is broken in one way, for which it must fail.
"""

import collections
import json
import math
import os
import re
import sys

from browser import Browser, Page, pixels

folder = sys.argv[1]
numbers = {"tests": 0, "failed": 0}


def path(name):
    return os.path.join(folder, name)


def load(name):
    with open(path(name)) as file:
        return json.load(file)


def say(ok, name, why=""):
    numbers["tests"] += 1
    numbers["failed"] += not ok
    print("%s %d - pictures: %s" % ("ok" if ok else "not ok", numbers["tests"], name))
    if not ok and why:
        print("# " + str(why)[:500].replace("\n", " "))
    sys.stdout.flush()


# ---- Checks: each takes an open page and returns "" or what is wrong ----

def no_error(page):
    return "; ".join(page.problems())


def no_request(page):
    return "; ".join(page.requests())


def not_blank(page):
    _, _, rows = pixels(page.screenshot())
    colours = collections.Counter(bytes(row[i:i + 3]) for row in rows[::7]
                                  for i in range(0, len(row), 21))
    common, most = colours.most_common(1)[0]
    share = most / sum(colours.values())
    return "" if len(colours) > 20 and share < 0.97 else \
        "%d colours, %.1f %% of it %s" % (len(colours), 100 * share, common.hex())


def average(page):
    _, _, rows = pixels(page.screenshot())
    sample = [b for row in rows[::11] for b in row[::5]]
    return sum(sample) / len(sample)


def light_and_dark(page):
    """By the system's wish, and by the button."""
    wrong = []
    page.scheme(False)
    light = average(page)
    page.scheme(True)
    dark = average(page)
    if not (light > 170 and dark < 90):
        wrong.append("system: light %.0f, dark %.0f" % (light, dark))
    left, top, width, height = page.place("#theme")
    page.mouse(left + width / 2, top + height / 2, click=True)
    by_button = average(page)
    if by_button < 170:
        wrong.append("button: %.0f" % by_button)
    page.scheme(False)
    page.evaluate("delete document.documentElement.dataset.theme")
    return "; ".join(wrong)


CONTRAST = """(() => {
    const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
    const rgb = (colour) => {
        canvas.clearRect(0, 0, 1, 1);
        canvas.fillStyle = colour;
        canvas.fillRect(0, 0, 1, 1);
        return [...canvas.getImageData(0, 0, 1, 1).data];
    };
    const light = (c) => {
        const [r, g, b] = c.map((v) => v / 255).map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const poor = new Set();
    for (const e of document.querySelectorAll("body *")) {
        const words = [...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim());
        if (!words || !e.getClientRects().length || e.closest("script, style, noscript"))
            continue;
        const style = getComputedStyle(e), svg = e instanceof SVGElement;
        const ink = rgb(svg ? style.fill : style.color);
        let under = e, paper;
        do {
            paper = rgb(getComputedStyle(under).backgroundColor);
            under = under.parentElement;
        } while (paper[3] < 255 && under);
        const [a, b] = [light(ink), light(paper)].sort((x, y) => y - x);
        const ratio = (a + 0.05) / (b + 0.05);
        if (ratio < 4.5)
            poor.add(e.tagName + " " + e.className + " " + ratio.toFixed(2) + " " + e.textContent.trim().slice(0, 20));
    }
    return [...poor].slice(0, 5);
})()"""


def contrast(page):
    """WCAG 2.1, 1.4.3, of all text in both schemes, folded text included."""
    page.evaluate("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
    wrong = []
    for dark in (False, True):
        page.scheme(dark)
        wrong += page.evaluate(CONTRAST)
    page.scheme(False)
    page.evaluate("document.querySelectorAll('details').forEach((d) => { d.open = false; })")
    return "; ".join(wrong)


# What colour-blind people see of linear RGB (Machado, Oliveira, Fernandes 2009, severity 1).
SEEN = {
    "everybody": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    "protanopia": ((0.152286, 1.052583, -0.204868), (0.114503, 0.786281, 0.099216),
                   (-0.003882, -0.048116, 1.051998)),
    "deuteranopia": ((0.367322, 0.860646, -0.227968), (0.280085, 0.672501, 0.047413),
                     (-0.011820, 0.042940, 0.968881)),
    "tritanopia": ((1.255528, -0.076749, -0.178779), (-0.078411, 0.930809, 0.147602),
                   (0.004733, 0.691367, 0.303900)),
}


def lab(rgb, matrix):
    linear = [v / 255 / 12.92 if v <= 10.31475 else ((v / 255 + 0.055) / 1.055) ** 2.4 for v in rgb]
    seen = [min(1, max(0, sum(m * v for m, v in zip(row, linear)))) for row in matrix]
    xyz = [sum(m * v for m, v in zip(row, seen)) for row in
           ((0.4339, 0.3762, 0.1899), (0.2126, 0.7152, 0.0722), (0.0177, 0.1095, 0.8730))]
    x, y, z = (v ** (1 / 3) if v > 0.008856 else 7.787 * v + 16 / 116 for v in xyz)
    return 116 * y - 16, 500 * (x - y), 200 * (y - z)


def colours_apart(page):
    """Every two colours of the map's legend, for every eye, by CIE 1976."""
    names = ("free image kernel table shared cow own-0 own-1 own-2 own-3 unmapped").split()
    wrong = []
    for dark in (False, True):
        page.scheme(dark)
        found = page.evaluate(
            "%s.map((name) => { const e = document.createElement('i'); document.body.append(e);"
            "e.style.color = 'var(--map-' + name + ')'; const c = getComputedStyle(e).color;"
            "e.remove(); return c.match(/\\d+/g).map(Number); })" % json.dumps(names))
        for eye, matrix in SEEN.items():
            seen = [lab(rgb, matrix) for rgb in found]
            for i, a in enumerate(seen):
                for j in range(i):
                    apart = sum((p - q) ** 2 for p, q in zip(a, seen[j])) ** 0.5
                    if apart < 12:
                        wrong.append("%s and %s: %.1f for %s, %s" % (
                            names[i], names[j], apart, eye, "dark" if dark else "light"))
    page.scheme(False)
    return "; ".join(wrong)


# ---- The map ----

def hilbert(order, d):
    """By its definition, the four quarters one after the other: (column, row)."""
    if order == 0:
        return 0, 0
    half, quarter = 1 << order - 1, 4 ** (order - 1)
    x, y = hilbert(order - 1, d % quarter)
    # The curve's first step is to the right on even orders, down on odd ones; each quarter
    # is the next smaller curve, the first mirrored on one diagonal, the last on the other.
    return ((y, x), (x, y + half), (x + half, y + half), (2 * half - 1 - y, half - 1 - x))[d // quarter]


def whole_place(page, frame):
    """Where frame `frame` of a guest of 256 MiB is on the left map, in pixels of the view."""
    left, top, width, height = page.place("canvas.whole")
    x, y = hilbert(8, frame)
    # A mouse event has whole pixels, as large as a cell here.
    return math.ceil(left + x * width / 256), math.ceil(top + y * height / 256)


def tip(page):
    return page.evaluate("(() => { const t = document.querySelector('.tip');"
                         "return t.hidden ? '' : [...t.children].map((c) => c.textContent).join('\\n'); })()")


def point_at(page, frame):
    """What is told of a frame, on the left map and, after a click there, on the right one."""
    page.mouse(*whole_place(page, frame), click=True)
    first = tip(page)
    # The chosen frame is marked on the right.
    left, top, width, height = page.place(".map.part .mark")
    page.mouse(5, 5)
    gone = tip(page)
    page.mouse(left + width / 2, top + height / 2)
    return first, gone, tip(page)


def space_text(space):
    return "%s, pid %d" % (space["name"], space["pid"])


def expected_tips():
    """[(frame, lines that must be told)] by what inspect's other commands say."""
    found = []
    for run in load("shared.json")["shared"][:4]:
        lines = ["gpa " + run["gpa"]]
        for place in run["mapped_by"]:
            lines.append("mapped by %s at %s, %s" % (
                space_text(place), place["va"],
                "copy on write" if place["cow"] else "writable" if place["writable"] else "read-only"))
        found.append((int(run["gpa"], 16) >> 12, lines))
    for space in load("maps.json")["spaces"]:
        for part in space["ranges"]:
            if part["sharing"] == "private" and part["page_bytes"] == 4096:
                found.append((int(part["gpa"], 16) >> 12, [
                    "gpa " + part["gpa"], "owner: " + space_text(space),
                    "mapped by %s at %s" % (space_text(space), part["first"])]))
                break
    found.append((65535, ["gpa 0xffff000", "kind: free", "owner: none"]))
    return found


def hover(page):
    wrong = []
    for frame, lines in expected_tips():
        left, gone, right = point_at(page, frame)
        if gone:
            wrong.append("still told: " + gone)
        for told in (left, right):
            missing = [line for line in lines if line not in told]
            if missing:
                wrong.append("frame %#x: no %r in %r" % (frame, missing[0], told))
    return "; ".join(wrong)


def keyboard(page):
    """From the last frame, which is free, by arrows to its neighbour."""
    page.evaluate("document.querySelector('canvas.part').focus()")
    page.key("End")
    last = tip(page)
    page.key("ArrowLeft")
    beside = tip(page)
    page.key("Home")
    first = tip(page)
    page.key("Escape")
    # The neighbour to the left of the last cell, which ends the curve's top row.
    frame = {hilbert(8, d): d for d in range(65536 - 4096, 65536)}
    x, y = hilbert(8, 65535)
    step = frame.get((x - 1, y))
    wanted = "gpa %#x" % (step << 12) if step is not None else ""
    if "gpa 0xffff000" not in last or wanted not in beside or "gpa 0x0\n" not in first + "\n" or tip(page):
        return "told %r, %r (not %r), %r, %r" % (last, beside, wanted, first, tip(page))
    return ""


def picture(page):
    """The right map as it is drawn now."""
    left, top, width, height = page.place("canvas.part")
    x, y = page.evaluate("[scrollX, scrollY]")
    return page.screenshot([left + x, top + y, width, height])


def legend(page):
    """The legend adds up to all frames, and one entry shows only its own."""
    told = page.evaluate("[...document.querySelectorAll('.legend button:not(:disabled) b')]"
                         ".map((b) => parseInt(b.textContent.replace(/,/g, '')))")
    before = picture(page)
    left, top, width, height = page.place(".legend button[data-key=shared]")
    page.mouse(left + width / 2, top + height / 2, click=True)
    page.mouse(5, 5)
    after = picture(page)
    left, top, width, height = page.place(".legend button[data-key=shared]")
    page.mouse(left + width / 2, top + height / 2, click=True)
    if sum(told) != 65536:
        return "frames in the legend: %d" % sum(told)
    return "" if before != after else "nothing changes when an entry is chosen"


def totals(page):
    """The table of kinds says what inspect pages says."""
    rows = dict(page.evaluate("[...document.querySelectorAll('#totals ~ .scroll tr')]"
                              ".map((r) => [...r.cells].slice(0, 2).map((c) => c.textContent))"))
    kinds = load("pages.json")["pages_by_kind"]
    wrong = {kind: (pages, rows.get(kind)) for kind, pages in kinds.items()
             if rows.get(kind) != str(pages)}
    return str(wrong) if wrong else ""


def chains(page):
    """Every walk of the report, with each level's entry and where all of it is."""
    walks = load("report.json")["walks"]
    drawn = page.evaluate("[...document.querySelectorAll('.walk')].map((w) => w.textContent)")
    wrong = [] if len(drawn) == len(walks) >= 4 else ["%d drawn of %d" % (len(drawn), len(walks))]
    for walk, text in zip(walks, drawn):
        wanted = [walk["what"], walk["va"], walk["gpa"], walk["hva"]]
        for level in walk["levels"]:
            wanted += ["%s [%d]" % (level["name"], level["index"]), "%016x" % int(level["entry"], 16),
                       level["hva"]]
        wrong += [word for word in wanted if word not in text]
    return "; ".join(wrong)


def plots(page):
    return "" if page.evaluate("document.querySelectorAll('figure.plot svg path').length") > 5 \
        else "no plot"


# ---- Pages of other commands ----

def histogram(page):
    """demand-paging's histogram has a bar for each bucket that has any, in µs."""
    figures = next(row["figures"] for row in load("tour.json")["exercises"]
                   if row["name"] == "demand-paging")
    wanted = sorted(value for name, value in figures.items() if re.search(r"_from_\d+_ns_count$", name))
    plot = "figure.plot svg[aria-label^=demand-paging]"
    bars = page.evaluate("document.querySelectorAll('%s polygon').length" % plot)
    table = page.evaluate("[...document.querySelector('%s').closest('figure').querySelectorAll('tbody tr')]"
                          ".map((r) => Number(r.cells[r.cells.length - 1].textContent))" % plot)
    # Three more bars are those of the key.
    return "" if bars == len(wanted) + 3 and sorted(table) == wanted else \
        "%d bars and values %r for %r" % (bars, table, wanted)


def exercises(page):
    """Every check of the tour is in the page, as it is in the JSON."""
    wrong = []
    for i, row in enumerate(load("tour.json")["exercises"]):
        shown = page.evaluate(
            "[...document.querySelectorAll('#row-%d > details:nth-of-type(1) tbody tr')]"
            ".map((r) => [...r.cells].map((c) => c.textContent))" % i)
        wanted = [["ok" if c["ok"] else "failed", c["name"], c["expected"], c["observed"]]
                  for c in row["checks"]]
        if shown != wanted:
            wrong.append("%s: %d rows, not as the %d checks" % (row["name"], len(shown), len(wanted)))
    return "; ".join(wrong)


def captures(page):
    """Each exercise's picture can be chosen, and they are different."""
    names = page.evaluate("[...document.querySelectorAll('.choices button')].map((b) => b.textContent)")
    seen = set()
    for i in range(len(names)):
        left, top, width, height = page.place(".choices button:nth-child(%d)" % (i + 1))
        page.mouse(left + width / 2, top + height / 2, click=True)
        page.mouse(5, 5)
        seen.add(picture(page))
    return "" if len(seen) == len(names) >= 2 else "%d of %d pictures differ" % (len(seen), len(names))


def matrix(page):
    squares = page.evaluate("document.querySelectorAll('#attacks ~ .scroll td a').length")
    report = load("dma.json")
    wanted = len(report["attacks"]) * len(report["exposure"])
    return "" if squares == wanted else "%d squares, not %d" % (squares, wanted)


def figures(page):
    """Every figure of the JSON is in the page, with its number, or why there is none."""
    shown = {row[0]: row[1] for row in page.evaluate(
        "[...document.querySelectorAll('details tbody tr')]"
        ".map((r) => [...r.cells].map((c) => c.textContent))")}
    wrong = []
    for figure in (f for e in load("measure.json")["experiments"] for f in e["figures"]):
        told, number = shown.get(figure["name"], ""), figure.get("value", figure.get("p50"))
        same = figure["why"] in told if figure["kind"] == "lack" else told == "%.6g" % number
        wrong += [] if same else ["%s: %r" % (figure["name"], told)]
    return "; ".join(wrong)


def verdicts(page):
    """A row for each figure that was compared, and each pairs with itself."""
    rows = page.evaluate("[...document.querySelectorAll('#figures ~ .scroll tbody tr')]"
                         ".map((r) => [...r.cells].map((c) => c.textContent))")
    told = {row[0]: row[5] for row in rows}
    wanted = {f["name"]: f["verdict"] for f in load("compare.json")["figures"]}
    return "" if told == wanted and all(row[1] == row[2] for row in rows) else str(told)


def names_are_text(page):
    """What a guest calls itself stays a name, wherever it is told."""
    told, images = "", 0
    for frame, _ in expected_tips():
        told += point_at(page, frame)[2]
        images += page.evaluate("document.images.length")
    if images:
        return "%d images" % images
    return "" if EVIL in told else "not told as it is: " + told


# In the JSON of a page "<" is written as an escape.
EVIL = '<img src="data:,x">'
EVIL_NAME = re.compile(r'"name":"init"'), r'"name":"\\u003cimg src=\\"data:,x\\">"'

COMMON = {"no error on the console": no_error, "nothing asked of anybody": no_request,
          "not blank": not_blank, "light and dark": light_and_dark, "contrast of text": contrast}
MAP = {"colours apart for every eye": colours_apart}
PAGES = {
    "inspect": {**COMMON, **MAP, "hover tells what inspect tells": hover,
                "keyboard reaches the map": keyboard, "legend": legend,
                "totals as inspect pages has them": totals, "chains through all layers": chains,
                "plots": plots},
    "tour": {**COMMON, "every check": exercises, "a picture of each exercise": captures,
             "plots": plots, "a histogram": histogram},
    "dma": {**COMMON, "matrix": matrix},
    "measure": {**COMMON, "every figure": figures},
    "compare": {**COMMON, "every verdict": verdicts},
}

# A check, the page it is for, and a change to that page after which it must fail.
CONTROLS = [
    ("no error on the console", "inspect", '"use strict";', '"use strict"; nothing_of_this_name();'),
    ("no error on the console", "tour", "<main>", '<main><img src="data:," onerror="1">'),
    ("nothing asked of anybody", "inspect", re.compile(r"<meta http-equiv[^>]*>"),
     '<link rel="stylesheet" href="http://strata.invalid/x.css">'),
    ("not blank", "dma", "<main>", "<main hidden>"),
    ("light and dark", "dma", "color-scheme: light dark;", "color-scheme: light;"),
    ("contrast of text", "tour", "--quiet: light-dark(#57606a", "--quiet: light-dark(#9aa5b1"),
    ("colours apart for every eye", "inspect", "--map-table: #cc79a7", "--map-table: #c79a00"),
    ("hover tells what inspect tells", "inspect", '"mousemove"', '"mousenever"'),
    ("hover tells what inspect tells", "inspect", "const right = Math.floor(d / 2)",
     "const right = Math.floor(d / 4)"),
    ("keyboard reaches the map", "inspect", '"keydown"', '"keynever"'),
    ("legend", "inspect", "shown = shown === c.key ? null : c.key", "shown = null"),
    ("totals as inspect pages has them", "inspect", "<td>table</td>", "<td>tables</td>"),
    ("chains through all layers", "inspect", '<li><div class="guest"><b>PT [', "<li><div><b>PT ("),
    ("plots", "tour", re.compile(r"<svg role.*?</svg>", re.S), ""),
    ("a histogram", "tour", re.compile(r"<polygon[^>]*>"), ""),
    ("every check", "tour", '<td class="ok">ok</td><td>', '<td class="ok">ok</td><td>x'),
    ("a picture of each exercise", "tour", "m = read_map(captures[index].map)",
     "m = read_map(captures[0].map)"),
    ("matrix", "dma", re.compile(r'<td class="stop"[^>]*><a [^>]*>stopped</a></td>'), "<td></td>"),
    ("every figure", "measure", "<td>clock/vm/pairs</td><td", "<td>clock/vm/pair</td><td"),
    ("every verdict", "compare", ">equal</td>", ">same</td>"),
]


def changed(name, old, new):
    with open(path(name + ".html")) as file:
        text = file.read()
    other = old.sub(new, text) if hasattr(old, "sub") else text.replace(old, new)
    if other == text:
        raise RuntimeError("the control changes nothing: " + str(old))
    with open(path("control.html"), "w") as file:
        file.write(other)
    return path("control.html")


def outcome(check, page):
    try:
        return check(page)
    except (RuntimeError, KeyError, IndexError, TypeError, ValueError) as error:
        return "%s: %s" % (type(error).__name__, error)


with Browser() as browser:
    for name, checks in PAGES.items():
        size = os.path.getsize(path(name + ".html"))
        say(size < 2 << 20, "%s: less than 2 MiB" % name, "%d bytes" % size)
        with Page(browser, path(name + ".html")) as page:
            for what, check in checks.items():
                wrong = outcome(check, page)
                say(not wrong, "%s: %s" % (name, what), wrong)
            wrong = no_error(page) or no_request(page)
            say(not wrong, "%s: nor after all that" % name, wrong)
    with Page(browser, changed("inspect", *EVIL_NAME)) as page:
        wrong = outcome(names_are_text, page)
        say(not wrong, "inspect: a guest's names are text", wrong)
    evil = changed("inspect", *EVIL_NAME)
    with open(evil) as file:
        text = file.read()
    with open(evil, "w") as file:
        file.write(text.replace("made.textContent = line", "made.innerHTML = line"))
    with Page(browser, evil) as page:
        wrong = outcome(names_are_text, page)
        say("images" in wrong, "control: a guest's names are text, of inspect where they are not", wrong)
    for what, name, old, new in CONTROLS:
        with Page(browser, changed(name, old, new)) as page:
            wrong = outcome(PAGES[name][what], page)
            say(bool(wrong), "control: %s, of %s without it" % (what, name))
print("1..%d" % numbers["tests"])
sys.exit(numbers["failed"] > 0)
