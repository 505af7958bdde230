import { existsSync } from "node:fs";
import path from "node:path";
import { OctavoError } from "../../src/core/errors.js";
import { loadChatTemplate } from "../../src/text/chat-template.js";
import { loadTokenizer } from "../../src/text/tokenizer.js";
import { Random } from "../random.js";
import { PROMPT_KINDS, type PromptKind } from "./prompt-kinds.js";

/** Prompt number `index` of a kind, as token ids; the same for the same seed. */
export type MakePrompt = (kind: PromptKind, index: number) => Promise<number[]>;

export interface PromptOptions {
  directory: string;
  vocabSize: number;
  seed: number;
  /** Of random prompts, in tokens. */
  inputLen: number;
}

/** Kinds that a model can be asked: without tokenizer and chat template only ids. */
export async function kindsOf(directory: string): Promise<PromptKind[]> {
  if (!existsSync(path.join(directory, "tokenizer.json"))) return ["random"];
  const { available } = await loadChatTemplate(directory);
  return available ? [...PROMPT_KINDS] : ["random"];
}

export async function promptMaker(
  kinds: readonly PromptKind[],
  options: PromptOptions,
): Promise<MakePrompt> {
  const { directory, seed, inputLen, vocabSize } = options;
  const randomFor = (kind: PromptKind, index: number): Random =>
    new Random(seed, index * PROMPT_KINDS.length + PROMPT_KINDS.indexOf(kind));
  const ids = (random: Random): number[] =>
    Array.from({ length: inputLen }, () => random.integer(0, vocabSize - 1));
  if (kinds.every((kind) => kind === "random"))
    return (kind, index) => Promise.resolve(ids(randomFor(kind, index)));
  if (!(await kindsOf(directory)).includes("chat"))
    throw new OctavoError(
      "invalid_config",
      `--prompts: ${directory} has no tokenizer.json or no chat template; expected random alone, got ${kinds.join(",")}`,
      "prompts",
    );
  const tokenizer = await loadTokenizer(directory);
  const template = await loadChatTemplate(directory);
  return async (kind, index) => {
    const random = randomFor(kind, index);
    if (kind === "random") return ids(random);
    const content = QUESTIONS[kind](random);
    const text = template.render([{ role: "user", content }], {
      addGenerationPrompt: true,
    });
    const encoded = await tokenizer.encode(text, { addSpecialTokens: false });
    return [...encoded];
  };
}

const NAMES = [
  "Anna",
  "Ben",
  "Clara",
  "David",
  "Emma",
  "Felix",
  "Maria",
  "Tom",
];
const CITIES = [
  "Berlin",
  "London",
  "Madrid",
  "Oslo",
  "Paris",
  "Rome",
  "Vienna",
];
const WORDS =
  "apple river stone window garden silver morning paper yellow mountain table bridge cloud winter letter candle forest music water summer orange house".split(
    " ",
  );
const TRAITS = ["brave", "small", "old", "happy", "clever", "lonely", "quiet"];
const HEROES = ["fox", "cat", "bear", "robot", "girl", "boy", "bird", "dragon"];

function pick<T>(random: Random, list: readonly T[]): T {
  return list[random.integer(0, list.length - 1)] as T;
}

const QUESTIONS: Record<
  Exclude<PromptKind, "random">,
  (random: Random) => string
> = {
  copying: (random) => {
    const left = [...WORDS];
    const words = Array.from({ length: random.integer(10, 20) }, () => {
      const [word = ""] = left.splice(random.integer(0, left.length - 1), 1);
      return word;
    });
    return `Copy these words exactly: ${words.join(" ")}`;
  },
  extraction: (random) => {
    const name = pick(random, NAMES);
    const age = random.integer(5, 90);
    return `Write the name, age and city as JSON: ${name} is ${age} years old and works in ${pick(random, CITIES)}.`;
  },
  // Hardly ever the same one twice in a run: recent outputs would have the answer.
  chat: (random) =>
    `Tell me a short story about a ${pick(random, TRAITS)} ${pick(random, HEROES)} called ${pick(random, NAMES)} in ${pick(random, CITIES)}.`,
};
