/// <reference lib="dom" />
import { Answer } from "./answer.js";
import { apiKey, ServerError } from "./api.js";
import { requestMessages, transcript, type Message } from "./conversation.js";
import { byId, copyFrom, html, setText } from "./dom.js";
import { AnswerView, toolView, userView } from "./message-view.js";
import { chosenModel, loadModels } from "./models.js";
import { chosenSettings, systemPrompt } from "./settings.js";

const list = byId("messages", HTMLElement);
const composer = byId("composer", HTMLFormElement);
const prompt = byId("prompt", HTMLTextAreaElement);
const send = byId("send", HTMLButtonElement);
const stop = byId("stop", HTMLButtonElement);
const copy = byId("copy", HTMLButtonElement);
const fresh = byId("fresh", HTMLButtonElement);
const keyForm = byId("key-form", HTMLFormElement);
const announcer = byId("announcer", HTMLElement);

/** For a first try; the built-in model knows them too. */
const SUGGESTIONS = [
  "What is Octavo?",
  "Tell me a story about a fox.",
  "What is 17 + 25?",
];
/** Further from the end than this, a reader is reading: what comes does not scroll. Pixels. */
const NEAR_END = 48;

const messages: Message[] = [];
let running: AbortController | null = null;
let last: AnswerView | null = null;

export function startChat(): void {
  composer.addEventListener("submit", (event) => {
    event.preventDefault();
    say(prompt.value);
  });
  prompt.addEventListener("keydown", (event) => {
    // Enter that ends the composition of a character is not meant for us.
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    composer.requestSubmit();
  });
  prompt.addEventListener("input", fitPrompt);
  stop.addEventListener("click", () => running?.abort());
  fresh.addEventListener("click", () => {
    startAnew();
    prompt.focus();
  });
  copy.addEventListener(
    "click",
    () => void copyFrom(copy, transcript(systemPrompt(), messages)),
  );
  keyForm.addEventListener("submit", (event) => {
    event.preventDefault();
    apiKey.value = byId("key", HTMLInputElement).value.trim();
    void openUp();
  });
  startAnew();
  // Where there is a keyboard; elsewhere one would cover the page.
  if (matchMedia("(pointer: fine)").matches) prompt.focus();
  void openUp();
}

/** Lists the models; asks for a key where the server wants one. */
export async function openUp(): Promise<void> {
  const error = await loadModels();
  if (error?.status !== 401) {
    keyForm.hidden = true;
    return;
  }
  askForKey(error);
}

function askForKey(error: ServerError): void {
  keyForm.hidden = false;
  const tried = apiKey.value !== "";
  const note = keyForm.querySelector("p");
  if (note && tried) setText(note, error.message);
  byId("key", HTMLInputElement).focus();
}

function startAnew(): void {
  running?.abort();
  messages.length = 0;
  last = null;
  const buttons = SUGGESTIONS.map((text) => {
    const button = html("button", { type: "button" }, text);
    button.addEventListener("click", () => say(text));
    return button;
  });
  list.replaceChildren(
    html(
      "div",
      { class: "welcome" },
      html("p", {}, "Ask something."),
      html("div", { class: "suggestions" }, ...buttons),
    ),
  );
  settle();
}

function say(text: string): void {
  if (text.trim() === "" || running !== null) return;
  add({ role: "user", text });
  prompt.value = "";
  fitPrompt();
  void answer();
}

function add(message: Exclude<Message, Answer>): void {
  list.querySelector(".welcome")?.remove();
  last?.closeActions();
  messages.push(message);
  list.append(message.role === "user" ? userView(message) : toolView(message));
  scrollToEnd();
}

/** Asks for the answer to the conversation as it is, and shows it as it comes. */
async function answer(): Promise<void> {
  const next = new Answer();
  const view = new AnswerView(next, {
    again: () => void again(),
    sendResults: (results) => {
      for (const result of results) add(result);
      void answer();
    },
  });
  const history = requestMessages(systemPrompt(), messages);
  messages.push(next);
  last = view;
  list.append(view.element);
  scrollToEnd();
  const controller = new AbortController();
  running = controller;
  settle();
  try {
    const body = {
      model: chosenModel(),
      messages: history,
      stream: true,
      stream_options: { include_usage: true },
      ...chosenSettings(),
    };
    await next.receive(
      body,
      controller.signal,
      onFrame(() => show(view)),
    );
  } catch (error) {
    next.state = "failed";
    next.error =
      error instanceof ServerError
        ? error
        : new ServerError(String(error), null, "");
  }
  // A conversation that was begun anew meanwhile has another.
  if (running === controller) running = null;
  show(view);
  settle();
  announce(next);
  if (next.error?.status === 401) askForKey(next.error);
}

/** The last answer again, from the same conversation. */
async function again(): Promise<void> {
  if (running !== null) return;
  messages.pop();
  last?.element.remove();
  last = null;
  prompt.focus();
  await answer();
}

function show(view: AnswerView): void {
  const follow =
    list.scrollHeight - list.scrollTop - list.clientHeight < NEAR_END;
  view.update();
  if (follow) scrollToEnd();
}

function scrollToEnd(): void {
  list.scrollTop = list.scrollHeight;
}

/** Calls `act` at most once a frame; not while the page is hidden, where nothing is to be seen. */
function onFrame(act: () => void): () => void {
  let waiting = false;
  return () => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => {
      waiting = false;
      act();
    });
  };
}

/** Buttons as they are to be now. */
function settle(): void {
  const busy = running !== null;
  const [shown, hidden] = busy ? [stop, send] : [send, stop];
  const focused = document.activeElement === hidden;
  shown.hidden = false;
  hidden.hidden = true;
  // The keyboard's place would be lost with the button.
  if (focused) (busy ? stop : prompt).focus();
  const begun = messages.length > 0;
  copy.disabled = fresh.disabled = !begun;
  list.setAttribute("aria-busy", String(busy));
  if (busy) setText(announcer, "Answering.");
}

/** For screen readers: the answer once, when it is whole, instead of token by token. */
function announce({ text, error, state, toolCalls }: Answer): void {
  const calls = toolCalls.map(({ name }) => `Call of ${name}.`);
  const end = state === "stopped" ? ["Stopped."] : [];
  const said = error === null ? [text, ...calls, ...end] : [error.message];
  setText(announcer, said.join(" "));
}

/** As high as its text, up to what the style allows. */
function fitPrompt(): void {
  prompt.style.height = "auto";
  prompt.style.height = `${prompt.scrollHeight + 2}px`;
}
