// Draw: a prompt in, pictures forming; read one back to see which findings survived.

import { call, download, events, fileFromUrl, form } from "./api.js";
import { chips } from "./read.js";

const $ = (id) => document.getElementById(id);

const EXAMPLES = ["Normal chest.", "Large right pleural effusion.", "Enlarged heart with pulmonary edema.", "Left pneumothorax."];
const SIDED = ["pleural effusion", "pneumothorax", "upper zone consolidation", "lower zone consolidation", "basal atelectasis", "lung nodule"];
const UNSIDED = ["cardiomegaly", "pulmonary edema"];
const SEVERITIES = ["", "small", "moderate", "large"];
const UNSIDED_WORD = { small: "mild", moderate: "moderate", large: "severe" };

export class Drawer {
  constructor(reader, compare, showTab) {
    Object.assign(this, { reader, compare, showTab });
    for (const text of EXAMPLES) {
      const button = Object.assign(document.createElement("button"), { type: "button", textContent: text });
      button.addEventListener("click", () => ($("prompt").value = text));
      $("examples").append(button);
    }
    options($("finding"), [...SIDED, ...UNSIDED]);
    options($("side"), ["", "left", "right", "bilateral"]);
    options($("severity"), SEVERITIES);
    $("finding").addEventListener("change", () => ($("side").disabled = UNSIDED.includes($("finding").value)));
    $("add-finding").addEventListener("click", () => this.#addFinding());
    $("draw-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#draw();
    });
    $("cancel").addEventListener("click", () => this.job && call(`/v1/jobs/${this.job}`, { method: "DELETE" }).catch(() => {}));
  }

  /** Take the server's defaults. */
  configure(info) {
    $("steps").value = info.num_steps;
    $("guidance").value = info.guidance_scale;
    $("count").max = info.max_pictures;
  }

  #addFinding() {
    const finding = $("finding").value;
    const sided = SIDED.includes(finding);
    const severity = sided ? $("severity").value : UNSIDED_WORD[$("severity").value];
    const words = [severity, sided ? $("side").value : "", finding].filter(Boolean).join(" ");
    const sentence = `${words[0].toUpperCase()}${words.slice(1)}.`;
    $("prompt").value = `${$("prompt").value.trim()} ${sentence}`.trim();
  }

  request() {
    return {
      prompt: $("prompt").value.trim(),
      seed: Number($("seed").value),
      num_steps: Number($("steps").value),
      guidance_scale: Number($("guidance").value),
    };
  }

  async #draw() {
    const request = { ...this.request(), num_pictures: Number($("count").value) };
    $("draw-error").hidden = true;
    $("draw-empty").hidden = true;
    this.#busy(true, "Waiting");
    try {
      const stream = { ...request, stream: true, preview_every: Math.max(1, Math.round(request.num_steps / 6)) };
      for await (const [name, data] of events("/v1/draw", { json: stream })) {
        if (name === "queued") this.job = data.id;
        if (name === "step") this.#progress(data);
        if (name === "pictures") this.#finish(data, request);
      }
    } catch (error) {
      $("draw-error").textContent = error.message;
      $("draw-error").hidden = false;
      if (error.code === "cancelled") $("pictures").replaceChildren();
    }
    this.#busy(false);
  }

  #busy(isBusy, text = "") {
    $("draw").disabled = isBusy;
    $("cancel").hidden = !isBusy;
    $("draw-progress").hidden = !isBusy;
    $("draw-status").textContent = text;
    $("bar").value = 0;
    if (!isBusy) this.job = null;
  }

  #progress({ step, num_steps, previews }) {
    $("draw-status").textContent = `Step ${step} of ${num_steps}`;
    $("bar").value = step / num_steps;
    if (previews) $("pictures").replaceChildren(...previews.map((url, index) => figure(url, `Forming, picture ${index + 1}`)));
  }

  #finish(result, request) {
    const figures = result.pictures.map(({ data, seed }) => {
      const made = figure(data, `Synthetic radiograph, seed ${seed}: ${result.prompt}`);
      const caption = document.createElement("figcaption");
      const actions = Object.assign(document.createElement("div"), { className: "row" });
      caption.append(`Synthetic, seed ${seed}`, actions);
      const survived = document.createElement("div");
      const add = (text, act) => {
        const button = Object.assign(document.createElement("button"), { type: "button", textContent: text });
        button.addEventListener("click", () => act(button));
        actions.append(button);
      };
      add("PNG", () => download(`synthetic_${seed}.png`, data));
      add("DICOM", () => this.#downloadDicom({ ...request, seed, num_pictures: 1 }));
      add("Read it back", (button) => this.#readBack(data, result.prompt, survived, button));
      add("Open in Read", async () => {
        this.showTab("read");
        await this.reader.add([fileFromUrl(data, "synthetic.png")]);
      });
      add("Compare", () => this.compare.add(data));
      caption.append(survived);
      made.append(caption);
      return made;
    });
    $("pictures").replaceChildren(...figures);
  }

  async #downloadDicom(request) {
    const result = await call("/v1/draw", { json: { ...request, format: "dicom" } });
    download(`synthetic_${request.seed}.dcm`, result.pictures[0].data);
  }

  async #readBack(url, prompt, home, button) {
    button.disabled = true;
    home.textContent = "Reading …";
    try {
      const file = fileFromUrl(url, "synthetic.png");
      const [report, asked] = await Promise.all([
        call("/v1/report", { form: form(file, { force: true }) }),
        call("/v1/label", { json: { text: prompt } }),
      ]);
      home.replaceChildren(survival(asked.labels, report.findings), paragraph(report.text));
    } catch (error) {
      home.textContent = error.message;
    }
    button.disabled = false;
  }
}

/** Which findings of the prompt the report names again. */
function survival(asked, found) {
  const positive = new Set(found.filter((f) => f.state === "positive").map((f) => f.label));
  const wanted = Object.keys(asked).filter((label) => asked[label] === "positive");
  const list = Object.assign(document.createElement("ul"), { className: "chips" });
  const items = wanted.map((label) => {
    const [item] = chips([{ label, state: positive.has(label) ? "positive" : "uncertain" }]);
    item.textContent = positive.has(label) ? `✓ ${label}` : `✗ ${label}`;
    item.className = positive.has(label) ? "negative" : "positive lost";
    item.title = positive.has(label) ? "read back from the picture" : "not read back from the picture";
    return item;
  });
  list.append(...items);
  return items.length ? list : paragraph("The prompt names no finding to look for.");
}

function figure(url, alt) {
  const made = document.createElement("figure");
  made.append(Object.assign(document.createElement("img"), { src: url, alt }));
  return made;
}

function paragraph(text) {
  return Object.assign(document.createElement("p"), { textContent: text, className: "quiet" });
}

function options(select, values) {
  select.replaceChildren(...values.map((value) => new Option(value || "any", value)));
}
