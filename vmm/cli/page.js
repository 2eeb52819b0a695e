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
