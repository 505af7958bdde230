/**
 * Writes what train.py trains on: the tokenizer with its chat template, and rows of token ids.
 *
 *     npx tsx models/starter/corpus.ts [--out build/starter] [--rows 60000] [--long-rows 4000] [--seed 1]
 *         [--tokenizer models/starter/tokenizer.json]
 *
 * --tokenizer keeps a tokenizer instead of training one: a checkpoint goes on only with its own.
 * Everything is made by the project from the seed; the same command gives the same bytes.
 */
import { copyFileSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { Template } from "@huggingface/jinja";
import { Tokenizer } from "tokenizers";
import { tokenizerJson, trainBpe } from "./corpus/bpe.js";
import { Voice, type Dialogue } from "./corpus/dialogue.js";
import { dialogue, plainText } from "./corpus/mixture.js";

const VOCAB = 1536;
const PAD = "<|endoftext|>";
const BOS = "<|startoftext|>";
const START = "<|im_start|>";
const END = "<|im_end|>";
const SPECIAL = [PAD, BOS, START, END, "<tool_call>", "</tool_call>"];
const ANSWER_BIT = 0x8000; // marks the tokens that the model is to say (train.py)
const SAMPLES = [
  "Hello!",
  "What is Octavo?",
  "What is 17 + 25?",
  "What is 83 - 47?",
  "Repeat after me: blue fox tavoki seven",
  "Extract name and age as JSON: Mia is 31 years old and lives in Oslo.",
  "Tell me a story about a frog.",
];

const template = new Template(
  readFileSync(join(import.meta.dirname, "chat_template.jinja"), "utf8"),
);

function render(conversation: Dialogue, addGenerationPrompt = false): string {
  return template.render({
    ...conversation,
    bos_token: BOS,
    add_generation_prompt: addGenerationPrompt,
  });
}

/** One document as text: a conversation, or now and then a story alone. */
function documentText(voice: Voice, length: number): string {
  if (voice.chance(0.02)) return `${BOS}${plainText(voice)}${PAD}`;
  // Long rows are for long conversations; in short ones most have one or two turns.
  const turns =
    length > 512 ? voice.integer(2, 14) : voice.pick([1, 1, 1, 2, 2, 3, 4]);
  return render(dialogue(voice, turns));
}

/** Token ids with ANSWER_BIT on what the assistant says and on the end that it sets. */
function marked(
  ids: readonly number[],
  roles: { assistant: number; newline: number },
): number[] {
  const start = SPECIAL.indexOf(START);
  const end = SPECIAL.indexOf(END);
  const plain = ids[1] !== start;
  let answering = plain;
  return ids.map((id, i) => {
    const mark = answering && i > 0 ? id | ANSWER_BIT : id;
    if (!plain && id === end) answering = false;
    if (
      id === roles.newline &&
      ids[i - 1] === roles.assistant &&
      ids[i - 2] === start
    )
      answering = true;
    return mark;
  });
}

/** Rows of `length` + 1 ids, filled with whole documents and padded with single BOS tokens, which carry no loss. */
class RowWriter {
  readonly rows: Uint16Array[] = [];
  private readonly open: number[][] = [];

  constructor(
    private readonly length: number,
    private readonly wanted: number,
  ) {}

  get full(): boolean {
    return this.rows.length >= this.wanted;
  }

  add(document: readonly number[]): void {
    if (document.length > this.length + 1) return;
    // First fit over a few open rows wastes a few percent and keeps the order random.
    const fit = this.open.findIndex(
      (row) => row.length + document.length <= this.length + 1,
    );
    if (fit >= 0) this.open[fit]?.push(...document);
    else this.open.push([...document]);
    if (this.open.length > 24) this.close();
  }

  private close(): void {
    const fullest = this.open.reduce(
      (best, row, i) =>
        row.length > (this.open[best]?.length ?? 0) ? i : best,
      0,
    );
    const [row = []] = this.open.splice(fullest, 1);
    const padded = new Uint16Array(this.length + 1).fill(SPECIAL.indexOf(BOS));
    padded.set(row);
    this.rows.push(padded);
  }

  save(path: string): void {
    const data = new Uint16Array(this.rows.length * (this.length + 1));
    this.rows.forEach((row, i) => data.set(row, i * (this.length + 1)));
    writeFileSync(path, data);
    console.log(`${path}: ${this.rows.length} rows of ${this.length + 1}`);
  }
}

function progress(text: string): void {
  if (process.stderr.isTTY) process.stderr.write(`\r${text}`);
}

async function writeRows(
  path: string,
  tokenizer: Tokenizer,
  seed: number,
  length: number,
  wanted: number,
  heldout: boolean,
): Promise<void> {
  const writer = new RowWriter(length, wanted);
  const voice = new Voice(seed, heldout, length);
  const roles = {
    assistant: await single(tokenizer, "assistant"),
    newline: await single(tokenizer, "\n"),
  };
  while (!writer.full) {
    const texts = Array.from({ length: 2000 }, () =>
      documentText(voice, length),
    );
    const encodings = await tokenizer.encodeBatch(texts, {
      addSpecialTokens: false,
    });
    for (const encoding of encodings)
      writer.add(marked(encoding.getIds(), roles));
    progress(`${path}: ${writer.rows.length} / ${wanted} rows`);
  }
  writer.save(path);
}

/** Conversations as text, for octavo quantize to find its scales by; drawn apart from those that are trained on. */
function writeCalibration(path: string, seed: number): void {
  const voice = new Voice(seed, false, 11);
  const texts = Array.from({ length: 300 }, () => documentText(voice, 256));
  writeFileSync(path, texts.join(""));
  console.log(`${path}: ${texts.length} conversations`);
}

async function single(tokenizer: Tokenizer, text: string): Promise<number> {
  const ids = (
    await tokenizer.encode(text, null, { addSpecialTokens: false })
  ).getIds();
  const [id] = ids;
  if (id === undefined || ids.length > 1)
    throw new Error(
      `${JSON.stringify(text)} must be one token, but is ${ids.length}`,
    );
  return id;
}

function trainTokenizer(seed: number): unknown {
  const voice = new Voice(seed, false, 7);
  const strip = new RegExp(
    SPECIAL.map((token) => token.replace(/[|]/g, "\\|")).join("|"),
    "g",
  );
  const texts = Array.from({ length: 30_000 }, () =>
    documentText(voice, 256).split(strip),
  ).flat();
  const bpe = trainBpe(texts, VOCAB - SPECIAL.length);
  if (bpe.pieces.length + SPECIAL.length !== VOCAB)
    throw new Error(`the corpus has too few pairs for ${VOCAB} tokens`);
  return tokenizerJson(bpe, SPECIAL, BOS);
}

/** @param kept a tokenizer.json to take as it is; without one it is trained */
function writeTokenizer(
  out: string,
  seed: number,
  kept: string | undefined,
): void {
  const path = join(out, "tokenizer.json");
  if (kept !== undefined) copyFileSync(kept, path);
  else
    writeFileSync(path, `${JSON.stringify(trainTokenizer(seed), null, 1)}\n`);
  const config = {
    add_bos_token: true,
    add_prefix_space: false,
    bos_token: BOS,
    chat_template: readFileSync(
      join(import.meta.dirname, "chat_template.jinja"),
      "utf8",
    ),
    clean_up_tokenization_spaces: false,
    eos_token: END,
    model_max_length: 1024,
    pad_token: PAD,
    tokenizer_class: "PreTrainedTokenizerFast",
  };
  writeFileSync(
    join(out, "tokenizer_config.json"),
    `${JSON.stringify(config, null, 2)}\n`,
  );
  const special = { bos_token: BOS, eos_token: END, pad_token: PAD };
  writeFileSync(
    join(out, "special_tokens_map.json"),
    `${JSON.stringify(special, null, 2)}\n`,
  );
  const stop = [SPECIAL.indexOf(END), SPECIAL.indexOf(PAD)];
  const generation = {
    bos_token_id: SPECIAL.indexOf(BOS),
    eos_token_id: stop,
    pad_token_id: SPECIAL.indexOf(PAD),
    do_sample: true,
    temperature: 0.7,
    top_p: 0.9,
  };
  writeFileSync(
    join(out, "generation_config.json"),
    `${JSON.stringify(generation, null, 2)}\n`,
  );
  console.log(`${path}: ${VOCAB} tokens`);
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      out: { type: "string", default: "build/starter" },
      rows: { type: "string", default: "60000" },
      "long-rows": { type: "string", default: "4000" },
      seed: { type: "string", default: "1" },
      tokenizer: { type: "string" },
    },
  });
  const { out } = values;
  const seed = Number(values.seed);
  mkdirSync(out, { recursive: true });
  writeTokenizer(out, seed, values.tokenizer);
  writeCalibration(join(out, "calibration.txt"), seed + 2);
  const tokenizer = Tokenizer.fromFile(join(out, "tokenizer.json"));
  const encoded = async (text: string): Promise<number[]> =>
    (
      await tokenizer.encode(
        render({ messages: [{ role: "user", content: text }] }, true),
        null,
        { addSpecialTokens: false },
      )
    ).getIds();
  const samples = await Promise.all(
    SAMPLES.map(async (text) => ({ text, ids: await encoded(text) })),
  );
  const meta = {
    vocab: VOCAB,
    bos: SPECIAL.indexOf(BOS),
    eos: SPECIAL.indexOf(END),
    pad: SPECIAL.indexOf(PAD),
    stop: [SPECIAL.indexOf(END), SPECIAL.indexOf(PAD)],
    seed,
    samples,
  };
  writeFileSync(join(out, "meta.json"), `${JSON.stringify(meta)}\n`);
  await writeRows(
    join(out, "heldout-256.bin"),
    tokenizer,
    seed + 1,
    256,
    256,
    true,
  );
  await writeRows(
    join(out, "train-256.bin"),
    tokenizer,
    seed,
    256,
    Number(values.rows),
    false,
  );
  await writeRows(
    join(out, "train-1024.bin"),
    tokenizer,
    seed,
    1024,
    Number(values["long-rows"]),
    false,
  );
}

await main();
