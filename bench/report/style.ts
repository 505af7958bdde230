import { DARK, LIGHT } from "../../src/server/page/palette.js";

/** Light by default, dark where the reader's system is; print is always light and keeps figures in one piece. */
export const STYLE = `
:root {
  color-scheme: light;${LIGHT}
}
@media screen and (prefers-color-scheme: dark) {
  :root {
    color-scheme: dark;${DARK}
  }
}
* { box-sizing: border-box; }
body {
  margin: 0 auto; max-width: 1360px; padding: 2rem 1.5rem 4rem; background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Liberation Sans", sans-serif;
}
h1 { margin: 0; font-size: 1.7rem; font-weight: 650; letter-spacing: -0.01em; }
h2 { margin: 2.4rem 0 0.8rem; padding-top: 1.2rem; border-top: 1px solid var(--rule); font-size: 1.2rem; font-weight: 600; }
p { margin: 0.3rem 0; }
.quiet { color: var(--quiet); }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(138px, 1fr)); gap: 0.8rem; margin: 1.4rem 0; }
.tile { padding: 0.8rem 1rem; border-radius: 8px; background: var(--panel); }
.tile .value { font-size: 1.5rem; font-weight: 600; font-variant-numeric: tabular-nums; white-space: nowrap; }
.tile .value small { font-size: 0.85rem; font-weight: 400; color: var(--quiet); }
.tile .name { color: var(--quiet); font-size: 0.85rem; }
.tile.bad .value { color: var(--bad); }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 520px), 1fr)); gap: 1.2rem; }
figure { margin: 0; padding: 1rem 1rem 0.6rem; border-radius: 8px; background: var(--panel); break-inside: avoid; min-width: 0; }
figcaption { font-weight: 600; margin-bottom: 0.4rem; }
svg { display: block; width: 100%; height: auto; }
svg text { fill: var(--quiet); font-size: 12px; font-variant-numeric: tabular-nums; }
svg .label { fill: var(--ink); }
svg .grid { stroke: var(--rule); stroke-width: 1; }
svg .base, svg .tick { stroke: var(--quiet); stroke-width: 1; }
svg .bar { fill: var(--bar); }
svg .line { fill: none; stroke-width: 2; stroke-linejoin: round; }
svg .area { stroke: none; opacity: 0.14; }
svg .line.s1 { stroke: var(--s1); } svg .area.s1, svg .dot.s1 { fill: var(--s1); }
svg .line.s2 { stroke: var(--s2); stroke-dasharray: 6 3; } svg .area.s2, svg .dot.s2 { fill: var(--s2); }
svg .line.s3 { stroke: var(--s3); stroke-dasharray: 2 3; } svg .area.s3, svg .dot.s3 { fill: var(--s3); }
svg .mark line { stroke: var(--s2); stroke-width: 1.5; stroke-dasharray: 4 3; }
svg .mark text { fill: var(--s2); font-weight: 600; paint-order: stroke; stroke: var(--panel); stroke-width: 4px; }
svg .wait { fill: var(--s2); } svg .decode { fill: var(--s1); } svg .failed { fill: var(--bad); }
.charts + .scroll { margin-top: 1.2rem; }
.scroll { overflow-x: auto; }
figure[data-chart="gantt"] { grid-column: 1 / -1; }
figure .scroll { max-height: 320px; overflow-y: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 0.9rem; }
th, td { padding: 0.25rem 0.8rem 0.25rem 0; border-bottom: 1px solid var(--rule); text-align: right; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
th { font-weight: 600; color: var(--quiet); }
.settings { display: grid; grid-template-columns: repeat(auto-fill, minmax(300px, 1fr)); gap: 0 2rem; margin: 0; font-size: 0.9rem; }
.settings div { display: flex; justify-content: space-between; gap: 1rem; padding: 0.25rem 0; border-bottom: 1px solid var(--rule); }
.settings dt { color: var(--quiet); } .settings dd { margin: 0; text-align: right; overflow-wrap: anywhere; }
.failures td:first-child { white-space: normal; }
details { margin: 0.5rem 0; } summary { cursor: pointer; color: var(--quiet); font-size: 0.85rem; }
details.run > summary { font-size: 1.05rem; color: var(--ink); font-weight: 600; margin: 1rem 0; }
@media print {
  body { padding: 0; max-width: none; font-size: 11px; }
  .charts { grid-template-columns: 1fr 1fr; gap: 0.6rem; }
  .tiles { grid-template-columns: repeat(4, 1fr); }
  .tile, figure { border: 1px solid var(--rule); }
  details.run::details-content { content-visibility: visible; }
  figure details { display: none; }
  h2 { break-after: avoid; }
}
`;
