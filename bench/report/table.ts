import { element, type Markup } from "./markup.js";

/** A table that scrolls by itself where it is too wide. */
export function table(
  columns: readonly string[],
  rows: readonly (readonly (string | number)[])[],
): Markup {
  return element(
    "div",
    { class: "scroll", tabindex: 0 },
    element(
      "table",
      {},
      element(
        "thead",
        {},
        element(
          "tr",
          {},
          columns.map((name) => element("th", { scope: "col" }, name)),
        ),
      ),
      element(
        "tbody",
        {},
        rows.map((row) =>
          element(
            "tr",
            {},
            row.map((cell) => element("td", {}, cell)),
          ),
        ),
      ),
    ),
  );
}

/** A plot with its caption, and the numbers behind it. */
export function figure(
  name: string,
  caption: string,
  plot: Markup,
  columns: readonly string[],
  rows: readonly (readonly (string | number)[])[],
): Markup {
  return element(
    "figure",
    { "data-chart": name },
    element("figcaption", {}, caption),
    plot,
    element(
      "details",
      {},
      element("summary", {}, "Numbers"),
      table(columns, rows),
    ),
  );
}

export interface Tile {
  name: string;
  value: string;
  unit: string;
  bad?: boolean;
}

export function tiles(entries: readonly Tile[]): Markup {
  return element(
    "div",
    { class: "tiles" },
    entries.map(({ name, value, unit, bad = false }) =>
      element(
        "div",
        { class: bad ? "tile bad" : "tile" },
        element(
          "div",
          { class: "value" },
          value,
          element("small", {}, unit === "" ? "" : ` ${unit}`),
        ),
        element("div", { class: "name" }, name),
      ),
    ),
  );
}
