import { Random } from "../../../bench/random.js";

/** What a task adds to a conversation: one or more messages, the last from the assistant. */
export type Turn = Message[];

export interface Message {
  role: "system" | "user" | "assistant" | "tool";
  content: string;
  tool_calls?: ToolCall[];
}

export interface ToolCall {
  type: "function";
  function: { name: string; arguments: Record<string, unknown> };
}

export interface Tool {
  type: "function";
  function: {
    name: string;
    description: string;
    parameters: Record<string, unknown>;
  };
}

/** A conversation as the chat template takes it. */
export interface Dialogue {
  messages: Message[];
  tools?: Tool[];
}

/**
 * The source of every choice. With `heldout` set, phrasings and number pairs come from the part that training never
 * sees, so that the eval asks in words that the model doesn't know.
 */
export class Voice extends Random {
  constructor(
    seed: number,
    readonly heldout: boolean,
    stream = 0,
  ) {
    super(seed, stream);
  }

  pick<T>(items: readonly T[]): T {
    const item = items[this.integer(0, items.length - 1)];
    if (item === undefined) throw new RangeError("pick: the list is empty");
    return item;
  }

  chance(probability: number): boolean {
    return this.uniform() < probability;
  }

  /** `count` different items in random order. */
  sample<T>(items: readonly T[], count: number): T[] {
    const rest = [...items];
    return Array.from({ length: Math.min(count, rest.length) }, () => {
      const [item] = rest.splice(this.integer(0, rest.length - 1), 1);
      return item as T;
    });
  }

  /** A phrasing from the training list, or from the held-out one. */
  phrase(phrasings: Phrasings): string {
    return this.pick(this.heldout ? phrasings.heldout : phrasings.train);
  }
}

/** Ways to say one thing. Held-out ones are asked only in the eval. */
export interface Phrasings {
  train: readonly string[];
  heldout: readonly string[];
}

/** Puts values into `{name}` places. */
export function fill(
  text: string,
  values: Record<string, string | number>,
): string {
  return text.replace(/\{(\w+)\}/g, (_, name: string) => {
    const value = values[name];
    if (value === undefined)
      throw new Error(`no value for {${name}} in: ${text}`);
    return String(value);
  });
}

/** A question the way people type: sometimes without a capital, a full stop or a greeting before it. */
export function typed(voice: Voice, text: string): string {
  let out = voice.chance(0.2) ? lowerFirst(text) : text;
  if (voice.chance(0.06))
    out = voice.pick(["Hi! ", "Hello, ", "Please ", "Hey, ", "OK. "]) + out;
  if (voice.chance(0.15)) out = out.replace(/[.?!]$/, "");
  return out;
}

export function lowerFirst(text: string): string {
  return /^I\b/.test(text)
    ? text
    : text.charAt(0).toLowerCase() + text.slice(1);
}

export function upperFirst(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1);
}

/** "a", "a and b", "a, b and c". */
export function listed(items: readonly string[]): string {
  if (items.length < 2) return items.join("");
  return `${items.slice(0, -1).join(", ")} and ${items.at(-1) ?? ""}`;
}

/** "a apple" -> "an apple", where a filled-in word made it wrong. */
export function withArticles(text: string): string {
  return text.replace(/\b([Aa]) (?=[aeioAEIO])/g, "$1n ");
}

export function ask(question: string, answer: string): Turn {
  return [
    { role: "user", content: question },
    { role: "assistant", content: answer },
  ];
}
