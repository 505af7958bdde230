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
  /** Where they were computed: of each prompt token but the first, and the five best at its place. */
  prompt_logprobs?: number[];
  prompt_top5?: [number, number][][];
}

export interface GoldenReport {
  model: string;
  prompts: number;
  /** Up to the first of each prompt that may come out either way. */
  comparedTokens: number;
  wrongTokens: number;
  worstLogprob: number;
  /** Prompt positions whose log-probabilities were compared; those whose best token is another although it was clear. */
  promptPositions: number;
  wrongPromptTops: number;
  worstPromptLogprob: number;
  meanPromptLogprob: number;
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
      maxModelLen: Math.max(...cases.map(lengthOf)),
      numGpuBlocksOverride: 1024,
    },
    () => undefined,
  );
  try {
    return judge(model, cases, generate(started, cases));
  } finally {
    started.close();
  }
}

function readCases(file: string): GoldenCase[] {
  const golden = JSON.parse(readFileSync(file, "utf8")) as GoldenCase & {
    cases?: GoldenCase[];
  };
  return golden.cases ?? [golden];
}

function lengthOf(golden: GoldenCase): number {
  return golden.prompt_token_ids.length + golden.greedy_token_ids.length;
}

interface Came {
  tokens: number[];
  logprobs: number[];
  promptLogprobs: number[];
  promptTops: number[];
}

function generate({ engine }: StartedEngine, cases: GoldenCase[]): Came[] {
  const came: Came[] = cases.map(() => ({
    tokens: [],
    logprobs: [],
    promptLogprobs: [],
    promptTops: [],
  }));
  cases.forEach((golden, handle) =>
    engine.add({
      id: String(handle),
      handle,
      promptTokenIds: Int32Array.from(golden.prompt_token_ids),
      n: 1,
      priority: 0,
      cacheSalt: "",
      arrivalTime: now(),
      bypassPrefixCache: golden.prompt_logprobs !== undefined,
      params: {
        ...NEUTRAL_SAMPLING,
        temperature: 0,
        logprobs: 0,
        promptLogprobs: golden.prompt_logprobs ? 1 : null,
        ignoreEos: true,
        maxTokens: golden.greedy_token_ids.length,
      },
    }),
  );
  while (!engine.idle) {
    const result = engine.step();
    if (!result) continue;
    readEvents(result.events.toMessage(), (event) => {
      const one = came[event.handle];
      if (event.kind === EventKind.promptLogprob) {
        one?.promptLogprobs.push(event.logprob);
        one?.promptTops.push(event.topIds[0] ?? -1);
      }
      if (event.kind !== EventKind.token) return;
      one?.tokens.push(event.token);
      one?.logprobs.push(event.logprob);
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
  const prompt = judgePrompts(cases, came);
  const passed =
    comparedTokens + prompt.promptPositions > 0 &&
    wrongTokens === 0 &&
    worstLogprob < TOLERANCE &&
    prompt.wrongPromptTops === 0 &&
    prompt.worstPromptLogprob < TOLERANCE;
  const prompts = cases.length;
  return {
    ...{ model, prompts, comparedTokens, wrongTokens, worstLogprob },
    ...prompt,
    passed,
  };
}

function judgePrompts(cases: GoldenCase[], came: Came[]) {
  const errors: number[] = [];
  let wrongPromptTops = 0;
  cases.forEach(({ prompt_logprobs = [], prompt_top5 = [] }, i) =>
    prompt_logprobs.forEach((expected, at) => {
      const logprob = came[i]?.promptLogprobs[at] ?? NaN;
      const error = Math.abs(logprob - expected);
      errors.push(Number.isNaN(error) ? Infinity : error);
      const top = prompt_top5[at] ?? [];
      if (isClear(top) && came[i]?.promptTops[at] !== top[0]?.[0])
        wrongPromptTops++;
    }),
  );
  const sum = errors.reduce((total, error) => total + error, 0);
  return {
    promptPositions: errors.length,
    wrongPromptTops,
    worstPromptLogprob: Math.max(0, ...errors),
    meanPromptLogprob: errors.length > 0 ? sum / errors.length : 0,
  };
}

/** Whether the best of these candidates stays the best in fp16. */
function isClear([first, second]: [number, number][]): boolean {
  return (first?.[1] ?? 0) - (second?.[1] ?? 0) >= CLEAR_MARGIN;
}

function clearTokens({ top5, greedy_token_ids }: GoldenCase): number {
  const unclear = top5.findIndex((candidates) => !isClear(candidates));
  return unclear < 0 ? greedy_token_ids.length : unclear;
}
