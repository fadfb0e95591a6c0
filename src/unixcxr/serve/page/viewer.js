// A canvas that shows one radiograph: window and level by dragging, zoom by wheel or pinch, invert, overlay.

const START = { level: 128, width: 256, zoom: 1, x: 0, y: 0, inverted: false, overlay: 0.6 };

export class Viewer {
  constructor(home, label) {
    this.state = { ...START };
    this.partners = [];
    this.pointers = new Map();
    this.canvas = Object.assign(document.createElement("canvas"), { width: 768, height: 768, tabIndex: 0 });
    this.canvas.setAttribute("role", "img");
    this.label = label;
    this.canvas.setAttribute("aria-label", `${label}: no picture yet`);
    this.tools = Object.assign(document.createElement("div"), { className: "tools" });
    home.replaceChildren(this.canvas, this.tools);
    this.#addTools();
    this.#listen();
    this.#paint();
  }

  /** Show a picture from a URL; forget the old overlay. */
  async show(url) {
    const image = await load(url);
    this.picture = Object.assign(document.createElement("canvas"), { width: image.width, height: image.height });
    const context = this.picture.getContext("2d", { willReadFrequently: true });
    context.drawImage(image, 0, 0);
    this.pixels = context.getImageData(0, 0, image.width, image.height);
    this.grey = this.pixels.data.filter((_, index) => index % 4 === 0);
    this.shown = "";
    this.heat = null;
    this.opacity.hidden = true;
    this.reset();
    this.canvas.setAttribute("aria-label", `${this.label}: drag for window and level, wheel to zoom, arrow keys to move`);
  }

  async overlay(url) {
    this.heat = url ? await load(url) : null;
    this.opacity.hidden = !this.heat;
    this.#paint();
  }

  /** Move and zoom together with another viewer. */
  link(other) {
    this.partners.push(other);
    other.partners.push(this);
  }

  reset() {
    this.#change(START);
    this.#syncTools();
  }

  #addTools() {
    const button = (text, act) => {
      const made = Object.assign(document.createElement("button"), { type: "button", textContent: text });
      made.addEventListener("click", act);
      this.tools.append(made);
      return made;
    };
    this.invert = button("Invert", () => {
      this.#change({ inverted: !this.state.inverted });
      this.#syncTools();
    });
    button("Reset", () => this.reset());
    const range = (text, name, min, max, step) => {
      const label = document.createElement("label");
      const input = Object.assign(document.createElement("input"), { type: "range", min, max, step, value: this.state[name] });
      input.addEventListener("input", () => this.#change({ [name]: Number(input.value) }));
      label.append(text, input);
      this.tools.append(label);
      return label;
    };
    this.ranges = {
      level: range("Level", "level", 0, 255, 1),
      width: range("Window", "width", 8, 384, 1),
      zoom: range("Zoom", "zoom", 1, 8, 0.1),
      overlay: range("Overlay", "overlay", 0, 1, 0.05),
    };
    this.opacity = this.ranges.overlay;
    this.opacity.hidden = true;
  }

  #syncTools() {
    for (const [name, label] of Object.entries(this.ranges)) label.lastChild.value = this.state[name];
    this.invert.setAttribute("aria-pressed", this.state.inverted);
  }

  #listen() {
    const canvas = this.canvas;
    canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      this.#zoom(Math.exp(-event.deltaY / 500));
    }, { passive: false });
    canvas.addEventListener("pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      this.pointers.set(event.pointerId, event);
    });
    canvas.addEventListener("pointermove", (event) => this.#drag(event));
    for (const end of ["pointerup", "pointercancel"]) {
      canvas.addEventListener(end, (event) => this.pointers.delete(event.pointerId));
    }
    canvas.addEventListener("keydown", (event) => {
      const move = { ArrowLeft: [20, 0], ArrowRight: [-20, 0], ArrowUp: [0, 20], ArrowDown: [0, -20] }[event.key];
      if (move) this.#change({ x: this.state.x + move[0], y: this.state.y + move[1] });
      else if (event.key === "+") this.#zoom(1.2);
      else if (event.key === "-") this.#zoom(1 / 1.2);
      else return;
      event.preventDefault();
    });
  }

  #drag(event) {
    const before = this.pointers.get(event.pointerId);
    if (!before) return;
    const scale = this.canvas.width / this.canvas.clientWidth;
    const [dx, dy] = [event.clientX - before.clientX, event.clientY - before.clientY];
    if (this.pointers.size === 2) {
      const other = [...this.pointers.values()].find((p) => p.pointerId !== event.pointerId);
      const distance = (p) => Math.hypot(p.clientX - other.clientX, p.clientY - other.clientY);
      this.#zoom(distance(event) / Math.max(1, distance(before)));
    } else if (event.shiftKey || event.buttons === 4 || this.state.zoom > 1.01) {
      this.#change({ x: this.state.x + dx * scale, y: this.state.y + dy * scale });
    } else {
      this.#change({ level: clamp(this.state.level - dy / 2, 0, 255), width: clamp(this.state.width + dx, 8, 384) });
    }
    this.#syncTools();
    this.pointers.set(event.pointerId, event);
  }

  #zoom(factor) {
    this.#change({ zoom: clamp(this.state.zoom * factor, 1, 8) });
    this.#syncTools();
  }

  #change(part, fromPartner = false) {
    Object.assign(this.state, part);
    this.#paint();
    if (fromPartner) return;
    const { zoom, x, y } = this.state;
    for (const partner of this.partners) {
      partner.#change({ zoom, x, y }, true);
      partner.#syncTools();
    }
  }

  /** Map grey levels through window and level, when those have changed. */
  #window() {
    const { level, width, inverted } = this.state;
    const wanted = `${level} ${width} ${inverted}`;
    if (wanted === this.shown) return;
    this.shown = wanted;
    const table = Uint8ClampedArray.from({ length: 256 }, (_, v) => ((v - level) * 256) / width + 128);
    if (inverted) table.forEach((v, index) => (table[index] = 255 - v));
    const { data } = this.pixels;
    for (let index = 0; index < this.grey.length; index += 1) {
      data[4 * index] = data[4 * index + 1] = data[4 * index + 2] = table[this.grey[index]];
    }
    this.picture.getContext("2d").putImageData(this.pixels, 0, 0);
  }

  #paint() {
    const context = this.canvas.getContext("2d");
    const { width: side } = this.canvas;
    context.fillStyle = "#000";
    context.fillRect(0, 0, side, side);
    if (!this.picture) return;
    this.#window();
    const { zoom, x, y } = this.state;
    const fit = Math.min(side / this.picture.width, side / this.picture.height) * zoom;
    const [w, h] = [this.picture.width * fit, this.picture.height * fit];
    const place = [side / 2 - w / 2 + x, side / 2 - h / 2 + y, w, h];
    context.drawImage(this.picture, ...place);
    if (this.heat) {
      context.globalAlpha = this.state.overlay;
      context.drawImage(this.heat, ...place);
      context.globalAlpha = 1;
    }
  }
}

function clamp(value, low, high) {
  return Math.min(high, Math.max(low, value));
}

function load(url) {
  return new Promise((resolve, reject) => {
    const image = new Image();
    image.onload = () => resolve(image);
    image.onerror = () => reject(new Error("The picture cannot be shown."));
    image.src = url;
  });
}
