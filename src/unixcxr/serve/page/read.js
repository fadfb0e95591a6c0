// Read: pictures in, reports out, one after the other; a sentence shows where the text attended.

import { call, download, events, form } from "./api.js";
import { Viewer } from "./viewer.js";

const $ = (id) => document.getElementById(id);

export class Reader {
  constructor(compare) {
    this.items = [];
    this.compare = compare;
    this.viewer = new Viewer($("read-viewer"), "Radiograph");
    const send = Object.assign(document.createElement("button"), { type: "button", textContent: "Compare" });
    send.addEventListener("click", () => compare.add(this.current.url));
    this.viewer.tools.append(send);
    $("files").addEventListener("change", (event) => this.add([...event.target.files]));
    const drop = $("drop");
    for (const name of ["dragover", "dragleave", "drop"]) {
      drop.addEventListener(name, (event) => {
        event.preventDefault();
        drop.classList.toggle("over", name === "dragover");
        if (name === "drop") this.add([...event.dataTransfer.files]);
      });
    }
    $("copy").addEventListener("click", () => this.#copy());
    $("download-text").addEventListener("click", () => download("report.txt", this.current.result.text, "text/plain"));
    $("download-json").addEventListener("click", () =>
      download("report.json", JSON.stringify(this.current.result, null, 2), "application/json"));
  }

  /** Add files and read them in turn. */
  async add(files) {
    const added = files.map((file) => ({ file, text: "", state: "waiting" }));
    this.items.push(...added);
    for (const item of added) {
      try {
        const check = await call("/v1/check", { form: form(item.file, { include_image: true }) });
        item.url = check.image;
        this.#thumbnail(item);
        await this.select(item);
        await this.#read(item, false);
      } catch (error) {
        item.error = error;
        if (!item.url) await this.select(item);
      }
      this.#show(item);
    }
    $("files").value = "";
  }

  async select(item) {
    this.current = item;
    for (const button of $("queue").children) button.setAttribute("aria-current", button.item === item);
    $("read-viewer").hidden = !item.url;
    if (item.url) await this.viewer.show(item.url);
    this.#show(item);
  }

  async #read(item, force) {
    Object.assign(item, { state: "running", text: "", error: null, result: null });
    this.#show(item);
    for await (const [name, data] of events("/v1/report", { form: form(item.file, { stream: true, force }) })) {
      if (name === "text") item.text += data.delta;
      if (name === "report") Object.assign(item, { result: data, state: "done", text: data.text });
      this.#show(item);
    }
  }

  #thumbnail(item) {
    const button = document.createElement("button");
    button.type = "button";
    button.item = item;
    const image = Object.assign(document.createElement("img"), { src: item.url, alt: `Picture ${$("queue").children.length + 1}` });
    button.append(image);
    button.addEventListener("click", () => this.select(item));
    $("queue").append(button);
  }

  #show(item) {
    if (item !== this.current) return;
    const { result, error } = item;
    $("read-empty").hidden = true;
    $("report").hidden = Boolean(error) && !item.text;
    $("report-text").setAttribute("aria-busy", item.state === "running" && !error);
    $("read-error").hidden = !error;
    if (error) this.#showError(item);
    if (result) this.#showSentences(item);
    else $("report-text").textContent = item.text || "Reading …";
    for (const id of ["report-actions", "explain-hint", "confidence", "findings-title"]) $(id).hidden = !result;
    $("findings").replaceChildren(...(result ? chips(result.findings) : []));
    if (result) {
      $("confidence").textContent = `${result.confidence_notice} Read in ${result.seconds.toFixed(1)} s by ${result.model}.`;
    }
  }

  #showError(item) {
    const line = $("read-error");
    line.textContent = item.error.message;
    if (item.error.code !== "gate_refused") return;
    const button = Object.assign(document.createElement("button"), { type: "button", textContent: "Read it all the same" });
    button.addEventListener("click", async () => {
      try {
        await this.#read(item, true);
      } catch (error) {
        item.error = error;
      }
      this.#show(item);
    });
    line.append(" ", button);
  }

  #showSentences(item) {
    const { text, sentences } = item.result;
    const parts = [];
    let at = 0;
    for (const sentence of sentences) {
      parts.push(text.slice(at, sentence.start));
      const button = Object.assign(document.createElement("button"), { type: "button", textContent: sentence.text });
      button.setAttribute("aria-pressed", item.explained === sentence.text);
      button.addEventListener("click", () => this.#explain(item, sentence.text));
      parts.push(button);
      at = sentence.end;
    }
    $("report-text").replaceChildren(...parts, text.slice(at));
  }

  async #explain(item, sentence) {
    item.explained = item.explained === sentence ? null : sentence;
    this.#show(item);
    if (!item.explained) return this.viewer.overlay(null);
    const { token_ids, prompt } = item.result;
    try {
      const answer = await call("/v1/explain", {
        form: form(item.file, { sentence, token_ids: JSON.stringify(token_ids), prompt, format: "overlay" }),
      });
      if (item === this.current && item.explained === sentence) await this.viewer.overlay(answer.image);
    } catch (error) {
      item.error = error;
      this.#show(item);
    }
  }

  async #copy() {
    await navigator.clipboard.writeText(this.current.result.text);
    $("copied").textContent = "Copied.";
    setTimeout(() => ($("copied").textContent = ""), 2000);
  }
}

/** Findings as list items, positive ones first; what several sentences say alike is one item, the surest. */
export function chips(findings) {
  const rank = { positive: 0, uncertain: 1, negative: 2 };
  const surest = new Map();
  for (const finding of findings) {
    const key = `${finding.state} ${finding.label}`;
    if (!((surest.get(key)?.confidence ?? -1) >= (finding.confidence ?? 0))) surest.set(key, finding);
  }
  return [...surest.values()].sort((a, b) => rank[a.state] - rank[b.state]).map((finding) => {
    const item = document.createElement("li");
    item.className = finding.state;
    const sign = { positive: "", uncertain: "possible ", negative: "no " }[finding.state];
    const confidence = finding.confidence === undefined ? "" : ` ${Math.round(100 * finding.confidence)}%`;
    item.textContent = `${sign}${finding.label}${confidence}`;
    item.title = finding.sentence ?? "";
    return item;
  });
}
