/// <reference lib="dom" />
import { html, setAttributes, setText, svg } from "./dom.js";
import type { KvBlocks } from "./snapshot.js";

const CELL = 8;
const PITCH = 10;
const MOST_ROWS = 10;
const STATES = ["used", "cached", "free"] as const;

/** The KV cache as a field of cells: a cell is a block, or equally many of them where there are more than cells. */
export class BlockMap {
  readonly element: HTMLElement;
  private readonly canvas = svg("svg", {
    role: "img",
    "aria-label": "KV blocks",
  });
  private readonly paths = STATES.map((state) =>
    svg("path", { class: `blocks ${state}` }),
  );
  private readonly summary = html("span", { class: "legend" });
  private readonly keys = STATES.map((state) =>
    html("span", { class: `key ${state}` }),
  );
  private drawn = "";

  constructor() {
    this.canvas.append(...this.paths);
    this.element = html(
      "figure",
      {},
      html(
        "figcaption",
        {},
        html("span", { class: "title" }, "KV blocks"),
        this.summary,
      ),
      this.canvas,
      html("p", { class: "legend" }, ...this.keys),
    );
  }

  draw(blocks: KvBlocks): void {
    const { width } = this.canvas.getBoundingClientRect();
    const columns = Math.floor((width + PITCH - CELL) / PITCH);
    const total = blocks.used + blocks.cached + blocks.free;
    const key = `${columns} ${blocks.used} ${blocks.cached} ${blocks.free}`;
    if (columns < 1 || total === 0 || key === this.drawn) return;
    this.drawn = key;
    const { perCell, cells } = cellsOf(blocks, columns * MOST_ROWS);
    const count = cells.used + cells.cached + cells.free;
    const rows = Math.ceil(count / columns);
    setAttributes(this.canvas, {
      height: rows * PITCH,
      "aria-label": `${blocks.used} of ${total} blocks are used, ${blocks.cached} cached, ${blocks.free} free`,
    });
    let at = 0;
    STATES.forEach((state, i) => {
      this.paths[i]?.setAttribute("d", squares(at, cells[state], columns));
      at += cells[state];
      const key = this.keys[i];
      if (key) setText(key, `${state} ${grouped(blocks[state])}`);
    });
    const each = perCell === 1 ? "" : `, ${grouped(perCell)} a square`;
    setText(
      this.summary,
      `${grouped(total)} of ${blocks.size} tokens, ${blocks.type}${each}`,
    );
  }
}

/** How many cells each state has. Something that is there has at least one. */
export function cellsOf(
  { used, cached, free }: Pick<KvBlocks, "used" | "cached" | "free">,
  most: number,
): { perCell: number; cells: Record<(typeof STATES)[number], number> } {
  const total = used + cached + free;
  const perCell = Math.ceil(total / most);
  const count = Math.ceil(total / perCell);
  const usedCells = Math.ceil(used / perCell);
  const cachedCells = Math.min(count - usedCells, Math.ceil(cached / perCell));
  return {
    perCell,
    cells: {
      used: usedCells,
      cached: cachedCells,
      free: count - usedCells - cachedCells,
    },
  };
}

/** Cells [from, from + count) of a field, row by row, as one path. */
function squares(from: number, count: number, columns: number): string {
  let path = "";
  for (let i = from; i < from + count; i++) {
    const x = (i % columns) * PITCH;
    const y = Math.floor(i / columns) * PITCH;
    path += `M${x} ${y}h${CELL}v${CELL}h${-CELL}z`;
  }
  return path;
}

const grouped = (value: number): string => value.toLocaleString("en-US");
