// Compare: two linked viewers.

import { call, form } from "./api.js";
import { Viewer } from "./viewer.js";

const $ = (id) => document.getElementById(id);

export class Comparer {
  constructor(showTab) {
    this.showTab = showTab;
    this.viewers = [new Viewer($("viewer-left"), "Left picture"), new Viewer($("viewer-right"), "Right picture")];
    this.viewers[0].link(this.viewers[1]);
    this.next = 0;
    for (const [index, side] of ["left", "right"].entries()) {
      $(`file-${side}`).addEventListener("change", (event) => this.#open(index, event.target));
    }
    $("compare-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#drawBoth(event.submitter);
    });
  }

  /** Put a picture into the next free side and go there. */
  async add(url) {
    const viewer = this.viewers[this.next];
    this.next = 1 - this.next;
    this.showTab("compare");
    await viewer.show(url);
  }

  async #open(index, input) {
    await this.#guard(async () => {
      const check = await call("/v1/check", { form: form(input.files[0], { include_image: true }) });
      await this.viewers[index].show(check.image);
    });
    input.value = "";
  }

  async #drawBoth(button) {
    button.disabled = true;
    await this.#guard(async () => {
      const seed = Number($("compare-seed").value);
      const prompts = [$("prompt-left").value, $("prompt-right").value];
      const results = await Promise.all(prompts.map((prompt) => call("/v1/draw", { json: { prompt, seed } })));
      await Promise.all(results.map((result, index) => this.viewers[index].show(result.pictures[0].data)));
    });
    button.disabled = false;
  }

  async #guard(work) {
    $("compare-error").hidden = true;
    try {
      await work();
    } catch (error) {
      $("compare-error").textContent = error.message;
      $("compare-error").hidden = false;
    }
  }
}
