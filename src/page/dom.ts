/// <reference lib="dom" />

/** The element of the document with this id. Throws where it is missing or of another kind: the document is ours. */
export function byId<T extends Element>(
  id: string,
  kind: abstract new () => T,
): T {
  const found = document.getElementById(id);
  if (found instanceof kind) return found;
  throw new Error(`#${id}: expected a ${kind.name}`);
}

type Attributes = Readonly<Record<string, string | number>>;
type Children = readonly (Node | string)[];

/** Strings among the children become text, never markup. */
export function html<K extends keyof HTMLElementTagNameMap>(
  name: K,
  attributes: Attributes = {},
  ...children: Children
): HTMLElementTagNameMap[K] {
  const element = document.createElement(name);
  setAttributes(element, attributes);
  element.append(...children);
  return element;
}

export function svg<K extends keyof SVGElementTagNameMap>(
  name: K,
  attributes: Attributes = {},
  ...children: Children
): SVGElementTagNameMap[K] {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  setAttributes(element, attributes);
  element.append(...children);
  return element;
}

export function setAttributes(element: Element, attributes: Attributes): void {
  for (const [name, value] of Object.entries(attributes))
    element.setAttribute(name, String(value));
}

/** Writes a text only where it is another one: screen readers and selections are not disturbed. */
export function setText(element: Element, text: string): void {
  if (element.textContent !== text) element.textContent = text;
}

/** A button that copies what `read` gives and says so for a moment. */
export function copyButton(label: string, read: () => string) {
  const button = html("button", { type: "button", class: "quiet" }, label);
  button.addEventListener("click", () => void copyFrom(button, read()));
  return button;
}

/** Copies and says so on the button for a moment. */
export async function copyFrom(
  button: HTMLButtonElement,
  text: string,
): Promise<void> {
  const label = button.textContent ?? "";
  button.textContent = (await copied(text)) ? "Copied" : "Not copied";
  button.disabled = true;
  setTimeout(() => {
    button.textContent = label;
    button.disabled = false;
  }, 1200);
}

/** Browsers have a clipboard only over HTTPS and on the own machine; the older command works everywhere. */
async function copied(text: string): Promise<boolean> {
  const clipboard = (navigator as { clipboard?: Clipboard }).clipboard;
  try {
    if (clipboard !== undefined) {
      await clipboard.writeText(text);
      return true;
    }
  } catch {
    // Refused by the user or the browser: the older command may be allowed.
  }
  const active = document.activeElement;
  const area = html("textarea", { class: "unseen", "aria-hidden": "true" });
  area.value = text;
  document.body.append(area);
  area.select();
  // Deprecated, and the only way over plain HTTP.
  const done = document.execCommand("copy");
  area.remove();
  if (active instanceof HTMLElement) active.focus();
  return done;
}
