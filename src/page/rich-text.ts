/// <reference lib="dom" />
import { copyButton, html } from "./dom.js";

export interface Block {
  /** Null: plain text. */
  readonly code: { readonly language: string } | null;
  readonly text: string;
}

const FENCE = /^ {0,3}(`{3,}|~{3,})([^`]*)$/;

/** Cuts a text at its code fences. One that is still open reaches to the end. */
export function blocksOf(text: string): Block[] {
  const blocks: Block[] = [];
  let lines: string[] = [];
  let fence: string | null = null;
  let language = "";
  const cut = (): void => {
    if (fence !== null)
      blocks.push({ code: { language }, text: lines.join("\n") });
    else {
      // Blank lines around code are its distance, which the style gives.
      const first = lines.findIndex((line) => line.trim() !== "");
      const last = lines.findLastIndex((line) => line.trim() !== "");
      const text = lines.slice(first, last + 1).join("\n");
      if (first >= 0) blocks.push({ code: null, text });
    }
    lines = [];
  };
  for (const line of text.split("\n")) {
    const match = FENCE.exec(line);
    const marker = match?.[1] ?? "";
    const info = match?.[2]?.trim() ?? "";
    if (match !== null && fence === null) {
      cut();
      [fence, language] = [marker, info.split(/\s/)[0] ?? ""];
    } else if (fence !== null && marker.startsWith(fence) && info === "") {
      cut();
      fence = null;
    } else lines.push(line);
  }
  if (fence !== null || lines.length > 0) cut();
  return blocks;
}

/** Shows a growing text: as text, with code in blocks. Nodes that stay the same are left alone. */
export class RichText {
  readonly element = html("div", { class: "text" });
  private shown: { kind: string; content: Text }[] = [];

  update(text: string): void {
    const blocks = blocksOf(text);
    while (this.shown.length > blocks.length) {
      this.shown.pop();
      this.element.lastElementChild?.remove();
    }
    blocks.forEach((block, i) => this.show(block, i));
  }

  private show({ code, text }: Block, i: number): void {
    const kind = code === null ? "text" : `code ${code.language}`;
    const known = this.shown[i];
    if (known?.kind === kind) {
      const { content } = known;
      if (text.startsWith(content.data))
        content.appendData(text.slice(content.data.length));
      else content.data = text;
      return;
    }
    const content = document.createTextNode(text);
    const element =
      code === null
        ? html("p", {}, content)
        : codeBlock(code.language, content);
    this.shown[i] = { kind, content };
    const old = this.element.children[i];
    if (old === undefined) this.element.append(element);
    else old.replaceWith(element);
  }
}

function codeBlock(language: string, content: Text): HTMLElement {
  return html(
    "figure",
    { class: "code" },
    html(
      "figcaption",
      {},
      html("span", { class: "quiet" }, language || "code"),
      copyButton("Copy", () => content.data),
    ),
    html(
      "pre",
      { tabindex: 0, "aria-label": `${language} code`.trim() },
      html("code", {}, content),
    ),
  );
}
