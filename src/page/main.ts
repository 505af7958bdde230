/// <reference lib="dom" />
import { apiKey, request } from "./api.js";
import { openUp, startChat } from "./chat.js";
import { byId, setText } from "./dom.js";
import { startLive } from "./live.js";

const STATE_INTERVAL_MS = 5000;
const state = byId("state", HTMLElement);

/** "ready", or why it is not, asked every few seconds while the page can be seen. */
async function showState(): Promise<void> {
  if (document.visibilityState !== "visible") return;
  const was = state.dataset["state"];
  const [now, text] = await readState();
  state.dataset["state"] = now;
  setText(state, text);
  // Another server may have come up in its place.
  if (was === "gone" && now === "ready") await openUp();
}

async function readState(): Promise<[state: string, text: string]> {
  try {
    const response = await fetch("ready");
    if (response.ok) return ["ready", "ready"];
    const { reason } = (await response.json()) as { reason?: string };
    return ["busy", reason ?? "not ready"];
  } catch {
    return ["gone", "not reached"];
  }
}

async function showVersion(): Promise<void> {
  const answer = await request("version", apiKey).catch(() => null);
  if (answer === null) return;
  const { version } = (await answer.json()) as { version: string };
  setText(byId("version", HTMLElement), version);
}

/** On narrow screens either the chat or the figures are there. */
function switchViews(): void {
  const buttons = [
    ...document.querySelectorAll<HTMLButtonElement>("[data-show]"),
  ];
  for (const button of buttons)
    button.addEventListener("click", () => {
      document.body.dataset["view"] = button.dataset["show"] ?? "chat";
      for (const other of buttons)
        other.setAttribute("aria-pressed", String(other === button));
    });
}

switchViews();
startChat();
startLive();
void showVersion();
void showState();
setInterval(() => void showState(), STATE_INTERVAL_MS);
document.addEventListener("visibilitychange", () => void showState());
