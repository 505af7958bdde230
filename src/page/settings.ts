/// <reference lib="dom" />
import { ServerError } from "./api.js";
import { byId } from "./dom.js";

const system = byId("system", HTMLTextAreaElement);
const toggle = byId("toggle", HTMLButtonElement);
const tools = byId("tools", HTMLTextAreaElement);
const NUMBERS = [
  ["temperature", "Temperature"],
  ["max_tokens", "Max tokens"],
  ["seed", "Seed"],
] as const;

export const systemPrompt = (): string => system.value.trim();

/** Fields of a request that were filled in; the others are left to the server. Throws ServerError with what to mend. */
export function chosenSettings(): Record<string, unknown> {
  const chosen: Record<string, unknown> = {};
  for (const [field, label] of NUMBERS) {
    const input = byId(field.replace("_", "-"), HTMLInputElement);
    // A browser hides a text that is no number behind an empty value.
    if (input.validity.badInput)
      throw mistake(`${label}: expected a number`, input);
    const value = input.valueAsNumber;
    // JSON.stringify would send another one.
    if (Math.abs(value) > Number.MAX_SAFE_INTEGER)
      throw mistake(`${label}: expected at most 2^53 - 1`, input);
    if (input.value !== "") chosen[field] = value;
  }
  if (tools.value.trim() !== "") chosen["tools"] = parsedTools();
  return chosen;
}

function parsedTools(): unknown {
  try {
    return JSON.parse(tools.value) as unknown;
  } catch (error) {
    throw mistake(`Tools: expected JSON: ${(error as Error).message}`, tools);
  }
}

function mistake(text: string, field: HTMLElement): ServerError {
  openSettings(true);
  field.focus();
  return new ServerError(text, null, "");
}

export function openSettings(open: boolean): void {
  byId("settings", HTMLElement).hidden = !open;
  toggle.setAttribute("aria-expanded", String(open));
}

toggle.addEventListener("click", () =>
  openSettings(toggle.getAttribute("aria-expanded") !== "true"),
);
