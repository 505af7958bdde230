/** A piece of HTML or SVG that is safe to put into a document as it is. */
export class Markup {
  constructor(readonly text: string) {}
}

export type Content = Markup | string | number | null | readonly Content[];
type Attributes = Record<string, string | number | null>;

/** `<name a="b">content</name>`; text is escaped, attributes that are null are left out. */
export function element(
  name: string,
  attributes: Attributes = {},
  ...content: Content[]
): Markup {
  const pairs = Object.entries(attributes)
    .filter(([, value]) => value !== null)
    .map(([key, value]) => ` ${key}="${escape(show(value))}"`);
  return new Markup(
    `<${name}${pairs.join("")}>${content.map(render).join("")}</${name}>`,
  );
}

export function render(content: Content): string {
  if (content === null) return "";
  if (content instanceof Markup) return content.text;
  if (typeof content === "object") return content.map(render).join("");
  return escape(show(content));
}

/** Coordinates need no more than a hundredth of a pixel. */
function show(value: string | number | null): string {
  return typeof value === "number"
    ? String(Math.round(value * 100) / 100)
    : (value ?? "");
}

function escape(text: string): string {
  return text
    .replaceAll("&", "&amp;")
    .replaceAll("<", "&lt;")
    .replaceAll(">", "&gt;")
    .replaceAll('"', "&quot;");
}
