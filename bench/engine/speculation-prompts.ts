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
    const text = template.render(CONVERSATIONS[kind](random), {
      addGenerationPrompt: true,
    });
    const encoded = await tokenizer.encode(text, { addSpecialTokens: false });
    return [...encoded];
  };
}

// The built-in model knows these words: it spells others wrong when it copies them.
const NAMES = words("Anna Ben Clara David Emma Felix Maria Tom");
const CITIES = words("Berlin London Madrid Oslo Paris Rome Vienna");
const WORDS = words(
  "apple banana bear black blue book bread candle car cheese chair dog farmer fox garden green honey horse key lamp lemon mirror orange owl pencil rabbit rice table teacher tomato train yellow",
);
const VERBS = words("brings buys finds likes opens paints sees sells takes");
const COLORS = words("black blue brown gray green red white yellow");
const THINGS = words("basket book bottle clock jacket lamp mirror table");
const PLACES = ["at home", "in the garden", "near the river", "on the hill"];
const TRAITS = words("brave small old happy clever lonely quiet");
const HEROES = words("fox cat bear robot girl boy bird dragon");

function words(text: string): string[] {
  return text.split(" ");
}

function pick(random: Random, list: readonly string[]): string {
  return list[random.integer(0, list.length - 1)] as string;
}

function sample(random: Random, list: readonly string[], n: number): string[] {
  const left = [...list];
  return Array.from({ length: n }, () => {
    const [word = ""] = left.splice(random.integer(0, left.length - 1), 1);
    return word;
  });
}

type Conversation = { role: "user" | "assistant"; content: string }[];

const user = (content: string): Conversation => [{ role: "user", content }];

const CONVERSATIONS: Record<
  Exclude<PromptKind, "random">,
  (random: Random) => Conversation
> = {
  copying: (random) => {
    const text =
      random.uniform() < 0.5
        ? sample(random, WORDS, random.integer(5, 9)).join(" ")
        : sentence(random);
    return user(`Copy these words exactly: ${text}`);
  },
  // The form of the answer is in those before it, its values in the question.
  extraction: (random) => {
    const turns = Array.from({ length: 3 }, () => record(random));
    return turns.flat().slice(0, -1);
  },
  // Hardly ever the same one twice in a run: recent outputs would have the answer.
  chat: (random) =>
    user(
      `Tell me a short story about a ${pick(random, TRAITS)} ${pick(random, HEROES)} called ${pick(random, NAMES)} in ${pick(random, CITIES)}.`,
    ),
};

function sentence(random: Random): string {
  return `${pick(random, NAMES)} ${pick(random, VERBS)} the ${pick(random, COLORS)} ${pick(random, THINGS)} ${pick(random, PLACES)}.`;
}

/** A question and its answer. */
function record(random: Random): Conversation {
  const name = pick(random, NAMES);
  const age = random.integer(5, 90);
  const city = pick(random, CITIES);
  return [
    {
      role: "user",
      content: `Please extract name, age and city as JSON: ${name} is ${age} years old and works in ${city}.`,
    },
    {
      role: "assistant",
      content: `{"name": "${name}", "age": ${age}, "city": "${city}"}`,
    },
  ];
}
