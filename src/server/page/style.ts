import { DARK, LIGHT } from "./palette.js";

/** Light or dark as the reader's system is; two columns from 60rem on, below it one view at a time. */
export const STYLE = `
:root {
  color-scheme: light;${LIGHT}
  --on-s1: #ffffff; --free: #d3d9e0;
}
@media (prefers-color-scheme: dark) {
  :root {
    color-scheme: dark;${DARK}
    --on-s1: #0c1016; --free: #333d4a;
  }
}
* { box-sizing: border-box; }
[hidden] { display: none !important; }
.unseen {
  position: absolute; width: 1px; height: 1px; margin: -1px; padding: 0; border: 0; overflow: hidden; clip-path: inset(50%);
  white-space: nowrap;
}
html { height: 100%; }
body {
  display: flex; flex-direction: column; height: 100vh; height: 100dvh; margin: 0; background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Liberation Sans", sans-serif;
}
p, h1, h2, figure { margin: 0; }
a { color: var(--s1); }
.quiet { color: var(--quiet); }
.space { flex: 1; }
.skip { position: absolute; left: 0.5rem; top: -3rem; z-index: 1; padding: 0.4rem 0.8rem; background: var(--paper); }
.skip:focus { top: 0.5rem; }
:focus-visible { outline: 2px solid var(--s1); outline-offset: 2px; }

button, select, input, textarea { font: inherit; color: inherit; }
button {
  padding: 0.25rem 0.75rem; border: 1px solid var(--rule); border-radius: 6px; background: var(--paper); cursor: pointer;
  white-space: nowrap;
}
button:hover:not(:disabled) { border-color: var(--quiet); }
button:disabled { color: var(--quiet); cursor: default; }
button.quiet { padding: 0 0.4rem; border-color: transparent; background: none; font-size: 0.85rem; color: var(--quiet); }
button.quiet:hover { color: var(--ink); border-color: var(--rule); }
button[aria-expanded="true"], button[aria-pressed="true"] { background: var(--panel); border-color: var(--quiet); }
input, textarea, select {
  width: 100%; padding: 0.3rem 0.5rem; border: 1px solid var(--rule); border-radius: 6px; background: var(--paper);
}
select { width: auto; max-width: 100%; min-width: 0; text-overflow: ellipsis; }
::placeholder { color: var(--quiet); opacity: 1; }
textarea { resize: vertical; }
code, pre, textarea.code { font-family: ui-monospace, "SF Mono", "Cascadia Mono", Menlo, Consolas, "Liberation Mono", monospace; font-size: 0.86rem; }

header { display: flex; align-items: center; gap: 1rem; padding: 0.5rem 1.2rem; border-bottom: 1px solid var(--rule); }
h1 { display: flex; align-items: center; gap: 0.5rem; font-size: 1.05rem; font-weight: 650; letter-spacing: -0.01em; }
h1 small { font-weight: 400; font-size: 0.85rem; color: var(--quiet); }
h2 { font-size: 1rem; font-weight: 600; }
.views { display: none; gap: 0.3rem; }
.state { margin-left: auto; font-size: 0.85rem; color: var(--quiet); white-space: nowrap; }
.state::before { content: ""; display: inline-block; width: 8px; height: 8px; margin-right: 0.4rem; border-radius: 50%; background: var(--quiet); }
.state[data-state="ready"]::before { background: var(--s3); }
.state[data-state="busy"]::before { background: var(--s2); }
.state[data-state="gone"]::before { background: var(--bad); }

main { flex: 1; display: grid; grid-template-columns: minmax(0, 1fr) minmax(22rem, 27rem); min-height: 0; }
section { display: flex; flex-direction: column; min-width: 0; min-height: 0; }
.toolbar {
  display: flex; flex-wrap: wrap; align-items: center; gap: 0.4rem 0.6rem; min-height: 3.1rem; padding: 0.5rem 1.2rem;
  font-size: 0.9rem;
}
.pick { display: flex; align-items: center; gap: 0.5rem; min-width: 0; }
.notice { margin: 0.4rem 1.2rem; padding: 0.5rem 0.8rem; border-radius: 6px; background: var(--panel); }
.ask { display: flex; flex-wrap: wrap; gap: 0.4rem 0.6rem; align-items: end; margin: 0.4rem 1.2rem; padding: 0.8rem; border-radius: 6px; background: var(--panel); }
.ask label { flex: 1 1 12rem; } label > input, label > textarea { display: block; margin-top: 0.25rem; } .ask p { flex-basis: 100%; font-size: 0.85rem; }

#settings {
  display: grid; grid-template-columns: repeat(3, 1fr); gap: 0.7rem; max-height: 50vh; overflow-y: auto;
  padding: 0.8rem 1.2rem 1rem; border-block: 1px solid var(--rule); background: var(--panel); font-size: 0.9rem;
}
#settings .wide { grid-column: 1 / -1; }

#messages { flex: 1; overflow-y: auto; padding: 1rem 1.2rem 1.5rem; overscroll-behavior: contain; }
#messages > * { max-width: 46rem; margin: 0 auto 1.1rem; }
#messages:focus-visible { outline-offset: -2px; }
.welcome { padding-top: 14vh; text-align: center; font-size: 1.25rem; font-weight: 600; letter-spacing: -0.01em; }
.suggestions { display: flex; flex-wrap: wrap; justify-content: center; gap: 0.5rem; margin-top: 1rem; font-size: 0.95rem; font-weight: 400; letter-spacing: 0; }
.suggestions button { padding: 0.4rem 0.9rem; border-radius: 1.2rem; white-space: normal; }
.text p, .reasoning p { white-space: pre-wrap; overflow-wrap: anywhere; }
.user { display: flex; flex-direction: column; align-items: flex-end; }
.user .text { max-width: 85%; padding: 0.5rem 0.9rem; border-radius: 12px 12px 3px 12px; background: var(--panel); }
.tool > p { font-size: 0.85rem; }
.assistant .text > * + * { margin-top: 0.6rem; }
.assistant[data-state="streaming"] .text > p:last-child::after {
  content: ""; display: inline-block; width: 0.5em; height: 1em; margin-left: 2px; vertical-align: -0.15em; background: var(--s1);
}
.reasoning { margin-bottom: 0.6rem; padding-left: 0.8rem; border-left: 2px solid var(--rule); color: var(--quiet); font-size: 0.92rem; }
.reasoning summary { cursor: pointer; }
figure.code, figure.call { border: 1px solid var(--rule); border-radius: 8px; overflow: hidden; }
figure.call { margin-top: 0.6rem; }
figure.code figcaption, figure.call figcaption {
  display: flex; justify-content: space-between; padding: 0.2rem 0.5rem 0.2rem 0.8rem; background: var(--panel); font-size: 0.85rem;
}
pre { margin: 0; padding: 0.6rem 0.8rem; overflow-x: auto; }
.call pre { white-space: pre-wrap; overflow-wrap: anywhere; }
.results { display: grid; gap: 0.5rem; justify-items: start; margin-top: 0.6rem; font-size: 0.9rem; }
.results label { width: 100%; }
.error { margin-top: 0.4rem; padding: 0.5rem 0.9rem; border-left: 3px solid var(--bad); background: var(--panel); overflow-wrap: anywhere; }
.error p:first-child { white-space: pre-wrap; }
.foot { display: flex; flex-wrap: wrap; align-items: baseline; gap: 0 0.8rem; margin-top: 0.4rem; font-size: 0.85rem; font-variant-numeric: tabular-nums; }

.facts:empty { display: none; }
.actions { margin-left: -0.4rem; }

#composer {
  display: grid; grid-template-columns: minmax(0, 1fr) auto; gap: 0.5rem; align-items: end;
  width: 100%; max-width: 48.4rem; margin: 0 auto; padding: 0 1.2rem 0.8rem;
}
#prompt { min-height: 2.6rem; max-height: 40vh; padding: 0.5rem 0.8rem; border-radius: 10px; border-color: var(--quiet); resize: none; }
#send, #stop { height: 2.6rem; min-width: 4.6rem; border-radius: 10px; font-weight: 600; }
#send { border-color: var(--s1); background: var(--s1); color: var(--on-s1); }
#send:hover { filter: brightness(1.08); }
#composer p { grid-column: 1 / -1; font-size: 0.8rem; }

#live { border-left: 1px solid var(--rule); overflow-y: auto; background: var(--panel); }
#live .toolbar { position: sticky; top: 0; background: var(--panel); }
#live .notice, #live .ask { background: var(--paper); }
#figures { display: grid; gap: 1.1rem; padding: 0.2rem 1.2rem 1.5rem; }
figcaption { display: flex; flex-wrap: wrap; justify-content: space-between; gap: 0 0.8rem; font-size: 0.85rem; }
#live .title { font-weight: 600; }
.legend { display: flex; flex-wrap: wrap; gap: 0 0.9rem; font-size: 0.82rem; color: var(--quiet); font-variant-numeric: tabular-nums; }
.legend strong { color: var(--ink); font-weight: 600; }
.key { white-space: nowrap; }
.key::before { content: ""; display: inline-block; width: 9px; height: 9px; margin-right: 0.35rem; border-radius: 2px; background: var(--mark); }
#live svg { display: block; width: 100%; margin-top: 0.2rem; overflow: visible; }
#live svg text { fill: var(--quiet); font-size: 11px; font-variant-numeric: tabular-nums; }
.axis line { stroke: var(--rule); stroke-width: 1; shape-rendering: crispEdges; }
.line { fill: none; stroke: var(--mark); stroke-width: 1.75; stroke-linejoin: round; stroke-linecap: round; }
.line.s2 { stroke-dasharray: 5 4; }
.blocks { fill: var(--mark); }
.bar { display: flex; height: 10px; margin: 0.35rem 0 0.25rem; border-radius: 3px; overflow: hidden; background: var(--free); }
.bar span { background: var(--mark); }
.s1, .used { --mark: var(--s1); }
.s2 { --mark: var(--s2); }
.s3, .cached { --mark: var(--s3); }
.free { --mark: var(--free); }
.violet { --mark: #8a6fd1; } .ochre { --mark: #b98a2f; } .slate { --mark: #5b8c9e; }

@media (max-width: 60rem) {
  .views { display: flex; margin-left: auto; } .state { margin-left: 0; }
  main { grid-template-columns: minmax(0, 1fr); }
  #live { border-left: 0; }
  [data-view="chat"] #live, [data-view="live"] #chat { display: none; }
}
@media (max-width: 34rem) {
  header, .toolbar { padding-inline: 0.8rem; gap: 0.4rem 0.5rem; }
  header a, h1 small, #keys { display: none; }
  #messages, #composer, #figures { padding-inline: 0.8rem; }
  .state { white-space: normal; line-height: 1.2; }
  .state[data-state="ready"] { font-size: 0; } .state[data-state="ready"]::before { margin: 0; width: 10px; height: 10px; }
}
@media (prefers-reduced-motion: no-preference) {
  .assistant[data-state="streaming"] .text > p:last-child::after { animation: blink 1s steps(2) infinite; }
  .bar span { transition: width 0.3s; }
}
@media (forced-colors: active) {
  .bar, .key::before, .state::before, #live svg { forced-color-adjust: none; }
}
@keyframes blink { 50% { opacity: 0; } }
`;
