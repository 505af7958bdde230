import type { OpenApiDocument, Operation } from "./openapi.js";

const STYLE =
  "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color-scheme:light dark}" +
  "details{border-top:1px solid #8886;padding:.5rem 0}summary{cursor:pointer}pre{overflow:auto;padding:.5rem;background:#8882}" +
  "table{border-collapse:collapse}td{padding:.1rem 1rem .1rem 0;vertical-align:top}";

/** The description as one page that loads nothing and runs no script. */
export function docsPage({ info, paths }: OpenApiDocument): string {
  const operations = Object.entries(paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, operation]) => ({
      name: `${method.toUpperCase()} ${path}`,
      operation,
    })),
  );
  const tags = [...new Set(operations.flatMap((o) => o.operation.tags))];
  const sections = tags.map((tag) => {
    const own = operations.filter((o) => o.operation.tags.includes(tag));
    const entries = own.map((o) => entry(o.name, o.operation)).join("");
    return `<h2>${escape(tag)}</h2>${entries}`;
  });
  return (
    `<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">` +
    `<title>${escape(info.title)}</title><style>${STYLE}</style><h1>${escape(info.title)} ${escape(info.version)}</h1>` +
    `<p>${escape(info.description)} The same for programs: <a href="openapi.json">openapi.json</a>.</p>${sections.join("")}</html>\n`
  );
}

function entry(name: string, { summary, requestBody, responses }: Operation) {
  const request = requestBody?.content["application/json"];
  const [answer] = Object.values(responses["200"]?.content ?? {});
  const parts = [
    request && `<h4>Fields</h4>${fields(request.schema)}`,
    request && `<h4>Request</h4>${example(request.example)}`,
    `<h4>Answer</h4>${example(answer?.example)}`,
  ];
  return `<details><summary><code>${escape(name)}</code> ${escape(summary)}</summary>${parts.filter(Boolean).join("")}</details>`;
}

interface Schema {
  readonly type?: string | readonly string[];
  readonly properties?: Readonly<Record<string, Schema>>;
  readonly required?: readonly string[];
  readonly minimum?: number;
  readonly exclusiveMinimum?: number;
  readonly maximum?: number;
  readonly enum?: readonly unknown[];
  readonly description?: string;
}

function fields(schema: unknown): string {
  const { properties = {}, required = [] } = schema as Schema;
  const rows = Object.entries(properties).map(([name, field]) => {
    const { enum: values, description, type = "any" } = field;
    const types = [values ?? description ?? type]
      .flat()
      .filter((t) => t !== "null" && t !== null);
    const { minimum, exclusiveMinimum, maximum } = field;
    const bounds = [
      minimum !== undefined && `from ${minimum}`,
      exclusiveMinimum !== undefined && `above ${exclusiveMinimum}`,
      maximum !== undefined && `to ${maximum}`,
      required.includes(name) && "required",
    ];
    const said = [types.join(" or "), ...bounds.filter(Boolean)].join(", ");
    return `<tr><td><code>${escape(name)}</code></td><td>${escape(said)}</td></tr>`;
  });
  return `<table>${rows.join("")}</table>`;
}

function example(value: unknown): string {
  const text =
    typeof value === "string" ? value : (JSON.stringify(value, null, 2) ?? "");
  return `<pre>${escape(text)}</pre>`;
}

function escape(text: string): string {
  return text
    .replaceAll("&", "&amp;")
    .replaceAll("<", "&lt;")
    .replaceAll(">", "&gt;")
    .replaceAll('"', "&quot;");
}
