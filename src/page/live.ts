/// <reference lib="dom" />
import { metricsKey, request, ServerError } from "./api.js";
import { byId, setText } from "./dom.js";
import { Figures } from "./figures.js";
import { History } from "./history.js";
import { readSnapshot } from "./snapshot.js";

const INTERVAL_MS = 1000;

const section = byId("live", HTMLElement);
const notice = byId("live-notice", HTMLElement);
const freshness = byId("freshness", HTMLElement);
const pause = byId("pause", HTMLButtonElement);
const keyForm = byId("metrics-key-form", HTMLFormElement);
const keyField = byId("metrics-key", HTMLInputElement);

const history = new History();
const drawings = byId("figures", HTMLElement);
const figures = new Figures(drawings);
let paused = false;
/** Why nothing is asked for until somebody does something about it. */
let closed = false;
let timer: ReturnType<typeof setTimeout> | undefined;
let reading = false;

const seconds = (): number => performance.now() / 1000;

/** Reads /metrics once a second while it can be seen. */
export function startLive(): void {
  pause.addEventListener("click", () => {
    paused = !paused;
    pause.setAttribute("aria-pressed", String(paused));
    setText(pause, paused ? "Go on" : "Pause");
    goOn();
  });
  keyForm.addEventListener("submit", (event) => {
    event.preventDefault();
    metricsKey.value = keyField.value.trim();
    closed = false;
    goOn();
  });
  document.addEventListener("visibilitychange", goOn);
  // Also when the narrow page shows it or not.
  new ResizeObserver(goOn).observe(section);
}

/** It is on the page: the narrow page shows either this or the chat. */
const visible = (): boolean =>
  document.visibilityState === "visible" && section.offsetParent !== null;

function goOn(): void {
  figures.draw(history, seconds());
  clearTimeout(timer);
  if (!paused && !closed && visible()) void turn();
  else if (paused) setText(freshness, "paused");
}

async function turn(): Promise<void> {
  if (reading) return;
  reading = true;
  const started = performance.now();
  try {
    await read();
  } finally {
    reading = false;
  }
  if (paused || closed || !visible()) return;
  const taken = performance.now() - started;
  clearTimeout(timer);
  timer = setTimeout(() => void turn(), Math.max(0, INTERVAL_MS - taken));
}

async function read(): Promise<void> {
  try {
    const response = await request("metrics", metricsKey);
    const text = await response.text();
    history.add(readSnapshot(text, seconds()));
    notice.hidden = true;
    keyForm.hidden = true;
    drawings.hidden = false;
    setText(freshness, "once a second");
    figures.draw(history, seconds());
  } catch (error) {
    failed(error);
  }
}

function failed(error: unknown): void {
  const status = error instanceof ServerError ? error.status : null;
  const message = error instanceof Error ? error.message : String(error);
  setText(freshness, "");
  closed = status === 401 || status === 404;
  keyForm.hidden = status !== 401;
  const text =
    status === 404
      ? "This server runs without metrics (--disable-log-stats)."
      : status === 401 && metricsKey.value === ""
        ? ""
        : message;
  setText(notice, text);
  notice.hidden = text === "";
}
