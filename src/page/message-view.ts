/// <reference lib="dom" />
import type { Answer, ToolCall } from "./answer.js";
import type { ToolMessage, UserMessage } from "./conversation.js";
import { copyButton, html, setText } from "./dom.js";
import { RichText } from "./rich-text.js";

export function userView({ text }: UserMessage): HTMLElement {
  return html(
    "article",
    { class: "message user", "aria-label": "You" },
    html("div", { class: "text" }, html("p", {}, text)),
  );
}

export function toolView({ name, text }: ToolMessage): HTMLElement {
  return html(
    "article",
    { class: "message user tool", "aria-label": `Result of ${name}` },
    html("p", { class: "quiet" }, `Result of ${name}`),
    html("div", { class: "text" }, html("p", {}, text)),
  );
}

/** What can be done with an answer. */
export interface AnswerActions {
  readonly again: () => void;
  readonly sendResults: (results: readonly ToolMessage[]) => void;
}

/** An answer on the page; `update` shows what has come since. */
export class AnswerView {
  readonly element = html("article", {
    class: "message assistant",
    "aria-label": "Answer",
  });
  private readonly text = new RichText();
  private readonly thoughts = html("p", {});
  private readonly reasoning: HTMLDetailsElement;
  private readonly calls = html("div", { class: "calls" });
  private readonly error = html("div", { class: "error" });
  private readonly facts = html("p", { class: "facts quiet" });
  private readonly actions = html("div", { class: "actions" });
  private ended = false;

  constructor(
    private readonly answer: Answer,
    private readonly on: AnswerActions,
  ) {
    this.reasoning = html(
      "details",
      { class: "reasoning" },
      html("summary", {}, "Reasoning"),
      this.thoughts,
    );
    this.reasoning.hidden = true;
    this.error.hidden = true;
    const foot = html("div", { class: "foot" }, this.facts, this.actions);
    this.element.append(
      this.reasoning,
      this.text.element,
      this.calls,
      this.error,
      foot,
    );
    this.update();
  }

  update(): void {
    const { answer } = this;
    this.element.setAttribute("data-state", answer.state);
    this.reasoning.hidden = answer.reasoning === "";
    setText(this.thoughts, answer.reasoning);
    this.text.update(answer.text);
    answer.toolCalls.forEach((call, i) => this.showCall(call, i));
    setText(this.facts, factsOf(answer));
    if (answer.state === "waiting" || answer.state === "streaming") return;
    if (this.ended) return;
    this.ended = true;
    this.showError();
    this.showActions();
  }

  /** Only the last answer can be asked for again or be given results. */
  closeActions(): void {
    this.actions.querySelector("[data-again]")?.remove();
    this.calls.querySelector("form")?.remove();
  }

  private showCall({ name, arguments: text }: ToolCall, i: number): void {
    const known = this.calls.children[i];
    const element = known ?? html("figure", { class: "call" });
    if (known === undefined) {
      element.append(html("figcaption", {}), html("pre", {}, html("code")));
      this.calls.append(element);
    }
    const [caption, code] = element.querySelectorAll("figcaption, code");
    if (caption) setText(caption, `Call of ${name}`);
    if (code) setText(code, text);
  }

  private showError(): void {
    const { error } = this.answer;
    if (error === null) return;
    this.error.hidden = false;
    this.error.replaceChildren(html("p", {}, error.message));
    if (error.details !== "")
      this.error.append(html("p", { class: "quiet" }, error.details));
  }

  private showActions(): void {
    const { answer, on } = this;
    const again = html(
      "button",
      { type: "button", class: "quiet", "data-again": "" },
      "Try again",
    );
    again.addEventListener("click", () => on.again());
    this.actions.replaceChildren(again);
    if (answer.text !== "")
      this.actions.prepend(copyButton("Copy", () => answer.text));
    if (answer.toolCalls.length > 0 && answer.state === "done")
      this.calls.append(resultsForm(answer.toolCalls, on.sendResults));
  }
}

/** A field for the result of each call. */
function resultsForm(
  calls: readonly ToolCall[],
  send: AnswerActions["sendResults"],
): HTMLFormElement {
  const fields = calls.map(({ name }) => ({
    name,
    input: html("input", { type: "text", required: "", autocomplete: "off" }),
  }));
  const form = html(
    "form",
    { class: "results" },
    ...fields.map(({ name, input }) =>
      html("label", {}, `Result of ${name} `, input),
    ),
    html("button", { type: "submit" }, "Send result"),
  );
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    send(
      calls.map(({ id, name }, i) => ({
        role: "tool",
        callId: id,
        name,
        text: fields[i]?.input.value ?? "",
      })),
    );
  });
  return form;
}

/** "first token 12 ms · 340 tokens/s · 57 tokens · prompt 20, 16 cached · stop" */
export function factsOf(answer: Answer): string {
  const { ttft, tokensPerSecond, usage, finishReason, state } = answer;
  if (state === "waiting") return "waiting for the first token";
  const facts: string[] = [];
  if (ttft !== null) facts.push(`first token ${formatMs(ttft)}`);
  if (tokensPerSecond !== null)
    facts.push(`${formatRate(tokensPerSecond)} tokens/s`);
  if (usage !== null) {
    const cached = usage.prompt_tokens_details?.cached_tokens ?? 0;
    const read = `prompt ${usage.prompt_tokens}`;
    facts.push(`${usage.completion_tokens} tokens`);
    facts.push(cached > 0 ? `${read}, ${cached} cached` : read);
  }
  if (state === "stopped") facts.push("stopped");
  else if (finishReason !== null && state === "done")
    facts.push(finishReason === "length" ? "cut at the limit" : finishReason);
  return facts.join(" · ");
}

export function formatMs(ms: number): string {
  if (ms >= 10_000) return `${(ms / 1000).toFixed(1)} s`;
  return ms >= 10 ? `${Math.round(ms)} ms` : `${ms.toFixed(1)} ms`;
}

function formatRate(rate: number): string {
  return rate >= 100 ? String(Math.round(rate)) : rate.toFixed(1);
}
