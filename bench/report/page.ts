import { VERSION } from "../../src/cli/version.js";
import type { ServeBenchFlags } from "../serve/options.js";
import type { ServeRun } from "../serve/serve-run.js";
import { pointLabel } from "../serve/sweep.js";
import { element, Markup, type Content } from "./markup.js";
import { runSections } from "./run-sections.js";
import { formatValue } from "../../src/page/scale.js";
import { STYLE } from "./style.js";
import { sweepSections } from "./sweep-sections.js";

export interface PageInput {
  flags: ServeBenchFlags;
  runs: readonly ServeRun[];
  date: Date;
}

/**
 * One HTML document with everything in it: no script, nothing fetched. Figures are those of the JSON; below each plot is
 * the table of its numbers.
 */
export function reportPage({ flags, runs, date }: PageInput): string {
  const [first] = runs;
  const swept = flags.sweep !== undefined;
  const title = `${first?.facts.model ?? ""} · octavo bench serve`;
  const body: Content[] = [
    header(flags, runs, date),
    swept ? sweepSections(runs) : null,
    runs.map((run) => (swept ? sweptRun(run) : runSections(run))),
    settingsSection(flags),
  ];
  const document = element(
    "html",
    { lang: "en" },
    element(
      "head",
      {},
      element("meta", { charset: "utf-8" }),
      element("meta", {
        name: "viewport",
        content: "width=device-width, initial-scale=1",
      }),
      element("meta", { name: "color-scheme", content: "light dark" }),
      element("title", {}, title),
      element("style", {}, new Markup(STYLE)),
    ),
    element("body", {}, element("main", {}, body)),
  );
  // Elements without content have no end tag in HTML.
  return `<!doctype html>\n${document.text.replaceAll("</meta>", "")}\n`;
}

function header(
  flags: ServeBenchFlags,
  runs: readonly ServeRun[],
  date: Date,
): Markup {
  const facts = runs[0]?.facts;
  const load = [
    `${facts?.numPrompts ?? 0} requests of ${flags.datasetName}`,
    flags.sweep === undefined
      ? facts?.requestRate === Infinity
        ? "all at once"
        : `${formatValue(facts?.requestRate ?? 0)} req/s`
      : `${runs.length} runs`,
    ...(flags.maxConcurrency === undefined
      ? []
      : [`at most ${flags.maxConcurrency} in flight`]),
    `seed ${flags.seed}`,
  ];
  return element(
    "header",
    {},
    element("h1", {}, facts?.model ?? ""),
    element("p", {}, `${flags.baseUrl} · ${load.join(" · ")}`),
    element(
      "p",
      { class: "quiet" },
      `octavo bench serve ${VERSION}, node ${process.version}, ${date.toISOString().replace("T", " ").slice(0, 19)} UTC`,
    ),
  );
}

function sweptRun(run: ServeRun): Markup {
  return element(
    "details",
    { class: "run" },
    element("summary", {}, pointLabel(run.point)),
    runSections(run),
  );
}

/** Every flag with its value, but the key. */
function settingsSection(flags: ServeBenchFlags): Markup {
  const entries = Object.entries(flags).filter(
    ([name]) => name !== "apiKey" && name !== "html",
  );
  return element(
    "section",
    {},
    element("h2", {}, "Configuration"),
    element(
      "dl",
      { class: "settings" },
      entries.map(([name, value]) =>
        element(
          "div",
          {},
          element("dt", {}, flagName(name)),
          element("dd", {}, showValue(value)),
        ),
      ),
    ),
  );
}

function flagName(attribute: string): string {
  return `--${attribute.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`;
}

function showValue(value: unknown): string {
  if (value === Infinity) return "inf";
  if (Array.isArray(value)) return value.map(showValue).join(", ");
  if (typeof value === "object" && value !== null)
    return Object.values(value).map(showValue).join(": ");
  return String(value);
}
