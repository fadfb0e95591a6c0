// Ties the tabs together.

import { call, fileFromUrl, useToken } from "./api.js";
import { Comparer } from "./compare.js";
import { Drawer } from "./draw.js";
import { Reader } from "./read.js";

const $ = (id) => document.getElementById(id);
const tabs = [...document.querySelectorAll("[role=tab]")];

function showTab(name) {
  for (const tab of tabs) {
    const isChosen = tab.id === `tab-${name}`;
    tab.setAttribute("aria-selected", isChosen);
    tab.tabIndex = isChosen ? 0 : -1;
    $(tab.getAttribute("aria-controls")).hidden = !isChosen;
  }
}

for (const [index, tab] of tabs.entries()) {
  tab.addEventListener("click", () => showTab(tab.id.slice(4)));
  tab.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    const next = tabs[(index + step + tabs.length) % tabs.length];
    showTab(next.id.slice(4));
    next.focus();
  });
}

const darkWanted = matchMedia("(prefers-color-scheme: dark)");
const theme = (isDark) => (document.documentElement.dataset.theme = isDark ? "dark" : "light");
theme(darkWanted.matches);
darkWanted.addEventListener("change", (event) => theme(event.matches));
$("theme").addEventListener("click", () => theme(document.documentElement.dataset.theme !== "dark"));

const comparer = new Comparer(showTab);
const reader = new Reader(comparer);
const drawer = new Drawer(reader, comparer, showTab);

async function connect() {
  try {
    const info = await call("/v1/info");
    $("token-form").hidden = true;
    $("model").textContent = `${info.model} · ${info.size_px} px`;
    $("version").textContent = info.version;
    drawer.configure(info);
  } catch (error) {
    $("model").textContent = error.message;
    $("token-form").hidden = error.code !== "bad_token";
  }
}

$("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  useToken($("token").value);
  connect();
});

$("phantom").addEventListener("click", async (event) => {
  const button = event.target;
  button.disabled = true;
  button.textContent = "Drawing …";
  try {
    const drawn = await call("/v1/draw", { json: { prompt: "Large right pleural effusion.", seed: 1 } });
    await reader.add([fileFromUrl(drawn.pictures[0].data, "synthetic.png")]);
  } catch (error) {
    $("read-error").textContent = error.message;
    $("read-error").hidden = false;
  }
  button.disabled = false;
  button.textContent = "Draw me one to try";
});

connect();
