/// <reference lib="dom" />
import { html, setText } from "./dom.js";

export interface Share {
  /** Its class, which has its colour. */
  readonly name: string;
  readonly label: string;
  readonly amount: number;
  /** Beside the label; by default its percentage. */
  readonly text?: string;
}

/** A bar cut into shares, and below it what they are. */
export class ShareBar {
  readonly element: HTMLElement;
  private readonly summary = html("span", { class: "legend" });
  private readonly bar = html("div", { class: "bar", "aria-hidden": "true" });
  private readonly keys = html("p", { class: "legend" });

  constructor(title: string) {
    this.element = html(
      "figure",
      {},
      html(
        "figcaption",
        {},
        html("span", { class: "title" }, title),
        this.summary,
      ),
      this.bar,
      this.keys,
    );
  }

  draw(summary: string, shares: readonly Share[]): void {
    setText(this.summary, summary);
    if (this.bar.childElementCount !== shares.length) this.rebuild(shares);
    const total = shares.reduce((sum, { amount }) => sum + amount, 0);
    shares.forEach(({ amount, label, text }, i) => {
      const percent = total > 0 ? (100 * amount) / total : 0;
      const part = this.bar.children[i];
      if (part instanceof HTMLElement) part.style.width = `${percent}%`;
      const key = this.keys.children[i];
      const shown = text ?? `${percent.toFixed(percent < 10 ? 1 : 0)} %`;
      if (!(key instanceof HTMLElement)) return;
      setText(key, `${label} ${shown}`);
      key.hidden = amount === 0;
    });
  }

  private rebuild(shares: readonly Share[]): void {
    this.bar.replaceChildren(
      ...shares.map(({ name }) => html("span", { class: name })),
    );
    this.keys.replaceChildren(
      ...shares.map(({ name }) => html("span", { class: `key ${name}` })),
    );
  }
}
