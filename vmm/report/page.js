// The script of strata's pages (html.h): light or dark.
"use strict";

function theme_button() {
	const root = document.documentElement, button = document.getElementById("theme");
	const system_is_dark = matchMedia("(prefers-color-scheme: dark)");
	const dark = () => (root.dataset.theme || (system_is_dark.matches ? "dark" : "light")) === "dark";
	const say = () => { button.textContent = dark() ? "light" : "dark"; };

	button.hidden = false;
	button.title = "colours for light or dark surroundings";
	button.addEventListener("click", () => {
		root.dataset.theme = dark() ? "light" : "dark";
		say();
		document.dispatchEvent(new Event("themechange"));
	});
	system_is_dark.addEventListener("change", () => {
		say();
		document.dispatchEvent(new Event("themechange"));
	});
	say();
}

document.addEventListener("DOMContentLoaded", theme_button);

// ---- The map of guest memory (memory_html.h) ----
//
// Cells stand along a Hilbert curve, so that frames with near addresses are near in the
// picture, and each aligned block of 4, 16, 64… cells is a square. One canvas shows all
// cells, the other one such square of them, larger.

// Cell d of the curve with 2^order cells to a side (Warren, Hacker's Delight, 16-2).
function hilbert_place(order, d) {
	let x = 0, y = 0;

	for (let side = 1; side < 1 << order; side *= 2) {
		const right = Math.floor(d / 2) & 1, down = (d ^ right) & 1;

		if (!down) {
			if (right) {
				x = side - 1 - x;
				y = side - 1 - y;
			}
			[x, y] = [y, x];
		}
		x += side * right;
		y += side * down;
		d = Math.floor(d / 4);
	}
	return [x, y];
}

const COW = 1, PINNED = 2;
const OWN_COLOURS = 4;

function plural(n, what) { return n.toLocaleString("en") + " " + what + (n === 1 ? "" : "s"); }

function bytes_text(pages) {
	const units = ["KiB", "MiB", "GiB", "TiB"];
	let size = pages * 4, unit = 0;

	for (; size >= 1024 && unit < units.length - 1; unit++)
		size /= 1024;
	return (size >= 100 || Number.isInteger(size) ? Math.round(size) : size.toFixed(1)) + " " + units[unit];
}

// Addresses come as numbers of pages: those are exact in JavaScript's numbers.
function address(page) { return "0x" + page.toString(16) + (page ? "000" : ""); }

function space_name(space) {
	return (space.name || "an address space") + (space.pid ? ", pid " + space.pid : ", root " + space.root);
}

// What a frame counts as: a key, what it is called, and its colour's variable.
function class_of(map, kind, owner, flags, mappings) {
	const name = map.kinds[kind], user = name === "user" || name === "program";
	const words = {
		free: "free", image: "kernel image and what came with it", kernel: "kernel",
		table: "page tables", unknown: "not known",
	};

	if (!user)
		return { key: name, label: words[name] || name, colour: "--map-" + name };
	if (flags & COW)
		return { key: "cow", label: "copied on write", colour: "--map-cow" };
	if (mappings > 1)
		return { key: "shared", label: "shared", colour: "--map-shared" };
	if (!mappings)
		return { key: "unmapped", label: "user memory, not mapped", colour: "--map-unmapped" };
	return { key: "own" + owner, label: (map.bundled ? "private: " : "mapped once: ") + space_name(map.spaces[owner]),
		 colour: "--map-own-" + owner % OWN_COLOURS };
}

// A capture made ready: for each cell its class, and for each class how many frames.
function read_map(map) {
	const frames = map.slots.reduce((sum, slot) => sum + slot[1], 0);
	const n = Math.ceil(frames / map.fold), classes = new Map(), of_cell = new Uint16Array(n);
	const pinned = new Uint8Array(n), runs = map.runs || map.cells;
	let order = 0, frames_pinned = 0;

	const count = (kind, owner, flags, mappings, count_of) => {
		const found = class_of(map, kind, owner, flags, mappings);

		if (!classes.has(found.key))
			classes.set(found.key, { ...found, id: classes.size, frames: 0 });
		classes.get(found.key).frames += count_of;
		frames_pinned += flags & PINNED ? count_of : 0;
		return classes.get(found.key);
	};
	for (const run of runs) {
		let id, pins = 0;

		if (map.fold === 1) {
			id = count(run[2], run[3], run[4], run[5], run[1]).id;
			pins = run[4] & PINNED;
		} else {
			// By the commonest use other than free, if there is any.
			let most = 0;

			for (const [kind, owner, flags, mappings, in_cell] of run[2]) {
				const found = count(kind, owner, flags, mappings, in_cell * run[1]);
				const weight = found.key === "free" ? 0.5 : in_cell;

				pins |= flags & PINNED;
				if (weight > most) {
					most = weight;
					id = found.id;
				}
			}
		}
		of_cell.fill(id, run[0], run[0] + run[1]);
		pinned.fill(pins ? 1 : 0, run[0], run[0] + run[1]);
	}
	while (4 ** order < n)
		order++;
	return { map, frames, n, order, classes: [...classes.values()], of_cell, pinned, runs, frames_pinned };
}

// The page number of the first frame of a cell.
function page_of(m, cell) {
	let frame = cell * m.map.fold;

	for (const [first, pages] of m.map.slots) {
		if (frame < pages)
			return first + frame;
		frame -= pages;
	}
	return NaN;
}

function run_of(m, cell) {
	let low = 0, high = m.runs.length - 1;

	while (low < high) {
		const middle = (low + high + 1) >> 1;

		if (m.runs[middle][0] <= cell)
			low = middle;
		else
			high = middle - 1;
	}
	return m.runs[low];
}

// Lines that tell all about a cell.
function describe_cell(m, cell) {
	const map = m.map, run = run_of(m, cell), page = page_of(m, cell), lines = [];

	if (map.fold > 1) {
		lines.push("gpa " + address(page) + " to " + address(page + map.fold));
		for (const [kind, owner, flags, mappings, frames] of run[2])
			lines.push(plural(frames, "frame") + ": " + class_of(map, kind, owner, flags, mappings).label +
				   (flags & PINNED ? ", pinned for DMA" : ""));
		return lines;
	}
	const [first, , kind, owner, flags, mappings, places] = run;
	const found = class_of(map, kind, owner, flags, mappings);

	lines.push("gpa " + address(page));
	lines.push("kind: " + map.kinds[kind] + (found.key === map.kinds[kind] ? "" : ", " + found.label.replace(/: .*/, "")));
	lines.push("owner: " + (owner < 0 ? "none" : space_name(map.spaces[owner])));
	if (flags & PINNED)
		lines.push("pinned for DMA");
	for (const [space, va, rights] of places || [])
		lines.push("mapped by " + space_name(map.spaces[space]) + " at " + address(va + cell - first) +
			   (rights & 2 ? ", copy on write" : rights & 1 ? ", writable" : ", read-only"));
	if (mappings > (places || []).length)
		lines.push("and by " + plural(mappings - (places || []).length, "mapping") + " more");
	for (const [va, gpa, pages, rights] of map.kernel) {
		if (page >= gpa && page < gpa + pages)
			lines.push("kernel: at " + address(va + page - gpa) + (rights & 1 ? ", writable" : ", read-only"));
	}
	return lines;
}

function element(name, into, attributes) {
	const made = document.createElement(name);

	Object.assign(made, attributes);
	into.append(made);
	return made;
}

function memory_map(box) {
	const captures = JSON.parse(document.getElementById(box.dataset.from).textContent);
	const PIXELS = 512;
	let m, chosen, cursor = 0, zoom, shown = null, where; // where: cell at each place of the square

	const choices = element("div", box, { className: "choices" });
	const title = element("p", box, {});
	const maps = element("div", box, { className: "maps" });
	const figures = ["whole", "part"].map((name) => {
		const figure = element("figure", maps, {});
		const frame = element("div", figure, { className: "map " + name });
		const canvas = element("canvas", frame, { className: name, tabIndex: 0, width: PIXELS, height: PIXELS });
		const mark = element("div", frame, { className: "mark" });

		canvas.setAttribute("role", "application");
		return { canvas, mark, caption: element("figcaption", figure, {}) };
	});
	const [whole, part] = figures;
	const legend = element("div", maps, { className: "legend" });
	const tip = element("div", box, { className: "tip", hidden: true });

	tip.setAttribute("role", "status");
	whole.canvas.setAttribute("aria-label", "Map of all guest-physical memory. Arrow keys move the part that the other map shows.");
	part.canvas.setAttribute("aria-label", "Map of a part of guest-physical memory. Arrow keys go from page frame to page frame, plus and minus change its size.");

	const block = () => 4 ** zoom;
	const first_shown = () => Math.floor(cursor / block()) * block();
	const origin = () => hilbert_place(m.order, first_shown()).map((v) => v >> zoom << zoom);
	const side_of = (figure) => figure === whole ? 1 << m.order : 1 << zoom;

	// Colours as the page has them now, [r, g, b] for each class.
	function colours() {
		const probe = element("i", box, {});
		const found = m.classes.map((c) => {
			probe.style.color = "var(" + c.colour + ")";
			const rgb = getComputedStyle(probe).color.match(/[\d.]+/g).slice(0, 3).map(Number);

			return rgb;
		});
		probe.style.color = "var(--paper)";
		const paper = getComputedStyle(probe).color.match(/[\d.]+/g).slice(0, 3).map(Number);

		probe.remove();
		return found.map((rgb, id) => shown === null || m.classes[id].key === shown ? rgb
			: rgb.map((v, i) => Math.round(v * 0.14 + paper[i] * 0.86)));
	}

	function draw_whole(palette) {
		const side = 1 << m.order, context = whole.canvas.getContext("2d");

		whole.canvas.width = whole.canvas.height = side;
		const image = context.createImageData(side, side);

		for (let cell = 0; cell < m.n; cell++) {
			const [x, y] = [where.x[cell], where.y[cell]], at = 4 * (y * side + x);
			const rgb = palette[m.of_cell[cell]];

			image.data[at] = rgb[0];
			image.data[at + 1] = rgb[1];
			image.data[at + 2] = rgb[2];
			image.data[at + 3] = 255;
		}
		context.putImageData(image, 0, 0);
	}

	function draw_part(palette) {
		const side = 1 << zoom, scale = Math.max(1, Math.round(window.devicePixelRatio || 1));
		const canvas = part.canvas, context = canvas.getContext("2d"), size = PIXELS * scale / side;
		const gap = size >= 6 ? scale : 0, [left, top] = origin(), first = first_shown();

		canvas.width = canvas.height = PIXELS * scale;
		for (let cell = first; cell < Math.min(first + block(), m.n); cell++) {
			const x = (where.x[cell] - left) * size, y = (where.y[cell] - top) * size;

			context.fillStyle = "rgb(" + palette[m.of_cell[cell]].join() + ")";
			context.fillRect(x, y, size - gap, size - gap);
			if (m.pinned[cell] && size >= 4) {
				const dot = Math.max(1, Math.round(size / 4));

				context.fillStyle = "#fff";
				context.fillRect(x + size / 2 - dot - gap / 2, y + size / 2 - dot - gap / 2, 2 * dot, 2 * dot);
				context.fillStyle = "#000";
				context.fillRect(x + size / 2 - dot / 2 - gap / 2, y + size / 2 - dot / 2 - gap / 2, dot, dot);
			}
		}
	}

	function put_mark(figure, x, y, cells) {
		const unit = 100 / side_of(figure);

		Object.assign(figure.mark.style, { left: x * unit + "%", top: y * unit + "%",
			width: cells * unit + "%", height: cells * unit + "%" });
	}

	function draw() {
		const palette = colours(), first = first_shown(), [left, top] = origin();
		const last = Math.min(first + block(), m.n);

		draw_whole(palette);
		draw_part(palette);
		put_mark(whole, left, top, 1 << zoom);
		put_mark(part, where.x[cursor] - left, where.y[cursor] - top, 1);
		title.textContent = captures[chosen].shows ? captures[chosen].title + ": " + captures[chosen].shows : "";
		whole.caption.textContent = bytes_text(m.frames) + " in " + plural(m.frames, "page frame") +
			(m.map.fold > 1 ? ", " + m.map.fold + " to a cell" : "") + ", along a Hilbert curve from the top left corner";
		part.caption.textContent = bytes_text((last - first) * m.map.fold) + " of it, from " + address(page_of(m, first)) +
			" on (choose a part on the left; + and − change its size)";
	}

	function show_tip(figure, cell) {
		const frame = figure.canvas.getBoundingClientRect(), outer = box.getBoundingClientRect();
		const side = side_of(figure), [left, top] = figure === whole ? [0, 0] : origin();
		const unit = frame.width / side;
		const x = frame.left - outer.left + (where.x[cell] - left + 1) * unit;
		const y = frame.top - outer.top + (where.y[cell] - top + 1) * unit;

		tip.replaceChildren(...describe_cell(m, cell).map((line) => {
			const made = document.createElement("div");

			made.textContent = line;
			return made;
		}));
		tip.hidden = false;
		// On the other side of the cell where there is no room on this one.
		tip.style.left = Math.max(0, Math.min(x + 8, outer.width - tip.offsetWidth)) + "px";
		tip.style.top = y + 8 + "px";
	}

	function cell_under(figure, event) {
		const frame = figure.canvas.getBoundingClientRect(), side = side_of(figure);
		const [left, top] = figure === whole ? [0, 0] : origin();
		const x = Math.floor((event.clientX - frame.left) / frame.width * side) + left;
		const y = Math.floor((event.clientY - frame.top) / frame.height * side) + top;
		const inside = x >= left && y >= top && x < left + side && y < top + side;
		const cell = inside ? where.cell[(y << m.order) + x] : m.n;

		return cell < m.n ? cell : null;
	}

	function set_zoom(by) {
		zoom = Math.max(Math.min(2, m.order), Math.min(m.order, Math.min(7, zoom + by)));
		draw();
	}

	function move(figure, dx, dy) {
		const step = figure === whole ? 1 << zoom : 1, side = 1 << m.order;
		const x = where.x[cursor] + dx * step, y = where.y[cursor] + dy * step;

		if (x < 0 || y < 0 || x >= side || y >= side || where.cell[(y << m.order) + x] >= m.n)
			return;
		cursor = where.cell[(y << m.order) + x];
		draw();
		show_tip(figure, cursor);
	}

	const keys = {
		ArrowLeft: (f) => move(f, -1, 0), ArrowRight: (f) => move(f, 1, 0),
		ArrowUp: (f) => move(f, 0, -1), ArrowDown: (f) => move(f, 0, 1),
		Home: (f) => { cursor = 0; draw(); show_tip(f, cursor); },
		End: (f) => { cursor = m.n - 1; draw(); show_tip(f, cursor); },
		"+": () => set_zoom(-1), "=": () => set_zoom(-1), "-": () => set_zoom(1),
		Escape: () => { tip.hidden = true; },
	};

	for (const figure of figures) {
		const { canvas } = figure;

		canvas.addEventListener("mousemove", (event) => {
			const cell = cell_under(figure, event);

			if (cell === null)
				tip.hidden = true;
			else
				show_tip(figure, cell);
		});
		canvas.addEventListener("mouseleave", () => { tip.hidden = true; });
		canvas.addEventListener("blur", () => { tip.hidden = true; });
		canvas.addEventListener("focus", () => {
			if (canvas.matches(":focus-visible"))
				show_tip(figure, cursor);
		});
		canvas.addEventListener("click", (event) => {
			const cell = cell_under(figure, event);

			if (cell === null)
				return;
			cursor = cell;
			draw();
		});
		canvas.addEventListener("keydown", (event) => {
			if (!keys[event.key] || event.ctrlKey || event.altKey || event.metaKey)
				return;
			event.preventDefault();
			keys[event.key](figure);
		});
	}

	function legend_row(key, colour, label, frames) {
		const row = element("button", legend, { type: "button" });
		const swatch = element("i", row, { className: key === "pinned" ? "swatch pinned" : "swatch" });

		if (colour)
			swatch.style.background = "var(" + colour + ")";
		element("span", row, { textContent: label });
		element("b", row, { textContent: plural(frames, "frame") });
		element("small", row, { textContent: bytes_text(frames) });
		return row;
	}

	function fill_legend() {
		const order = ["free", "image", "kernel", "table", "own", "shared", "cow", "unmapped", "unknown"];
		const rank = (c) => order.indexOf(c.key.replace(/\d+$/, ""));

		legend.replaceChildren();
		for (const c of [...m.classes].sort((a, b) => rank(a) - rank(b) || a.id - b.id)) {
			const row = legend_row(c.key, c.colour, c.label, c.frames);

			row.dataset.key = c.key;
			row.setAttribute("aria-pressed", "false");
			row.addEventListener("click", () => {
				shown = shown === c.key ? null : c.key;
				for (const other of legend.querySelectorAll("button"))
					other.setAttribute("aria-pressed", String(other.dataset.key === shown));
				draw();
			});
		}
		if (m.frames_pinned)
			legend_row("pinned", null, "pinned for DMA (a dot)", m.frames_pinned).disabled = true;
		if (!m.map.complete)
			element("p", legend, { className: "failed", textContent: "Not complete: the guest's tables are too many to walk all of them." });
	}

	function choose(index) {
		chosen = index;
		m = read_map(captures[index].map);
		where = { x: new Uint16Array(m.n), y: new Uint16Array(m.n), cell: new Uint32Array(4 ** m.order).fill(m.n) };
		for (let cell = 0; cell < m.n; cell++) {
			const [x, y] = hilbert_place(m.order, cell);

			where.x[cell] = x;
			where.y[cell] = y;
			where.cell[(y << m.order) + x] = cell;
		}
		shown = null;
		zoom = Math.max(0, Math.min(5, m.order - 2));
		cursor = first_telling(most_telling());
		fill_legend();
		draw();
		[...choices.children].forEach((b, i) => b.setAttribute("aria-pressed", String(i === index)));
	}

	// In a block, the first cell that is shared, or else the block's first.
	function first_telling(first) {
		for (let cell = first; cell < Math.min(first + block(), m.n); cell++)
			if (/^(shared|cow)$/.test(m.classes[m.of_cell[cell]].key))
				return cell;
		return first;
	}

	// Where to look first: the block with most frames that are shared or a process's own.
	function most_telling() {
		let best = 0, most = -1;

		for (let first = 0; first < m.n; first += block()) {
			let weight = 0;

			for (let cell = first; cell < Math.min(first + block(), m.n); cell++) {
				const key = m.classes[m.of_cell[cell]].key;

				weight += key === "shared" || key === "cow" ? 3 : key.startsWith("own") || key === "table" ? 1 : 0;
			}
			if (weight > most) {
				most = weight;
				best = first;
			}
		}
		return best;
	}

	if (captures.length > 1) {
		captures.forEach((capture, i) => {
			element("button", choices, { type: "button", textContent: capture.title })
				.addEventListener("click", () => choose(i));
		});
	}
	document.addEventListener("themechange", draw);
	choose(Number(box.dataset.first || 0));
}

// A link to something that is folded away opens it.
function open_target() {
	const target = location.hash && document.getElementById(location.hash.slice(1));

	if (target && target.closest("details"))
		target.closest("details").open = true;
}

addEventListener("hashchange", open_target);
document.addEventListener("DOMContentLoaded", () => {
	open_target();
	document.querySelectorAll(".memory").forEach(memory_map);
});
