import { existsSync, readdirSync, readFileSync } from "node:fs";
import path from "node:path";
import { ENGINE_DEFAULTS, now } from "../../src/core/config.js";
import type { EngineConfig } from "../../src/core/config.js";
import { EventKind, readEvents } from "../../src/core/events.js";
import { NEUTRAL_SAMPLING } from "../../src/core/sampling-params.js";
import { startEngine } from "../../src/engine/start-engine.js";
import type { StartedEngine } from "../../src/engine/start-engine.js";

/** Tokens whose two best candidates are closer than this may come out either way in fp16. */
const CLEAR_MARGIN = 0.05;
/** Of log-probabilities; f16 pages alone move those of random models by up to this. */
const TOLERANCE = 3e-2;

interface GoldenCase {
  prompt_token_ids: number[];
  greedy_token_ids: number[];
  logprobs: number[];
  /** [tokens][5][id, log-probability], descending. */
  top5: [number, number][][];
}

export interface GoldenReport {
  model: string;
  prompts: number;
  /** Up to the first of each prompt that may come out either way. */
  comparedTokens: number;
  wrongTokens: number;
  worstLogprob: number;
  passed: boolean;
}

/** Names of the models in `folder` that bring goldens (golden.json), sorted. */
export function goldenModels(folder: string): string[] {
  return readdirSync(folder)
    .filter((name) => existsSync(path.join(folder, name, "golden.json")))
    .sort();
}

/** Greedy continuations of all prompts of a model at once, against its float64 ones. */
export async function compareGolden(
  folder: string,
  model: string,
  device: EngineConfig["device"],
): Promise<GoldenReport> {
  const directory = path.join(folder, model);
  const cases = readCases(path.join(directory, "golden.json"));
  const started = await startEngine(
    {
      ...ENGINE_DEFAULTS,
      model: directory,
      device,
      maxNumSeqs: Math.max(8, cases.length),
      numGpuBlocksOverride: 1024,
    },
    () => undefined,
  );
  try {
    return judge(model, cases, generate(started, cases));
  } finally {
    started.runner.close();
  }
}

function readCases(file: string): GoldenCase[] {
  const golden = JSON.parse(readFileSync(file, "utf8")) as GoldenCase & {
    cases?: GoldenCase[];
  };
  return golden.cases ?? [golden];
}

interface Came {
  tokens: number[];
  logprobs: number[];
}

function generate({ engine }: StartedEngine, cases: GoldenCase[]): Came[] {
  const came: Came[] = cases.map(() => ({ tokens: [], logprobs: [] }));
  cases.forEach((golden, handle) =>
    engine.add({
      id: String(handle),
      handle,
      promptTokenIds: Int32Array.from(golden.prompt_token_ids),
      n: 1,
      priority: 0,
      cacheSalt: "",
      arrivalTime: now(),
      bypassPrefixCache: false,
      params: {
        ...NEUTRAL_SAMPLING,
        temperature: 0,
        logprobs: 0,
        ignoreEos: true,
        maxTokens: golden.greedy_token_ids.length,
      },
    }),
  );
  while (!engine.idle) {
    const result = engine.step();
    if (!result) continue;
    readEvents(result.events.toMessage(), (event) => {
      if (event.kind !== EventKind.token) return;
      came[event.handle]?.tokens.push(event.token);
      came[event.handle]?.logprobs.push(event.logprob);
    });
  }
  return came;
}

function judge(model: string, cases: GoldenCase[], came: Came[]): GoldenReport {
  let comparedTokens = 0;
  let wrongTokens = 0;
  let worstLogprob = 0;
  cases.forEach((golden, i) => {
    const clear = clearTokens(golden);
    comparedTokens += clear;
    for (let t = 0; t < clear; t++) {
      if (came[i]?.tokens[t] !== golden.greedy_token_ids[t]) wrongTokens++;
      const error = Math.abs(
        (came[i]?.logprobs[t] ?? NaN) - (golden.logprobs[t] ?? NaN),
      );
      worstLogprob = error <= worstLogprob ? worstLogprob : error;
    }
  });
  const passed =
    comparedTokens > 0 && wrongTokens === 0 && worstLogprob < TOLERANCE;
  const prompts = cases.length;
  return { model, prompts, comparedTokens, wrongTokens, worstLogprob, passed };
}

function clearTokens({ top5, greedy_token_ids }: GoldenCase): number {
  const unclear = top5.findIndex(
    ([first, second]) => (first?.[1] ?? 0) - (second?.[1] ?? 0) < CLEAR_MARGIN,
  );
  return unclear < 0 ? greedy_token_ids.length : unclear;
}
