import { mkdir, writeFile } from "node:fs/promises";
import path from "node:path";
import { OctavoError } from "../../src/core/errors.js";
import { arrivalTimes } from "./arrivals.js";
import { requestBody, sendRequest, type RequestSettings } from "./client.js";
import { loadDataset } from "./dataset.js";
import { datasetSettings } from "./dataset-flags.js";
import type { PromptContext } from "./dataset-settings.js";
import { HttpClient } from "./http.js";
import { runLoad, type LoadResult } from "./load.js";
import { computeMetrics } from "./metrics.js";
import {
  parseGoodput,
  resolveEndpoint,
  type ServeBenchFlags,
} from "./options.js";
import type { Outcome, Sample } from "./outcome.js";
import { Random } from "../random.js";
import { jsonReport, resultFilename, type RunFacts } from "./report.js";
import { readSpecDecode, specDecodeStats } from "./spec-decode.js";
import { failureLines, latenessLine } from "./notes.js";
import { renderTable } from "./table.js";
import {
  localVocabulary,
  remoteVocabulary,
  type Vocabulary,
} from "./vocabulary.js";
import { warmUp } from "./warm-up.js";

/** Stream of the seed for arrivals. */
const ARRIVALS = 5;

/** Where a run says things: the table on stdout, everything else on stderr. */
export interface Output {
  print(text: string): void;
  note(text: string): void;
  progress(done: number, total: number): void;
}

export interface ServeBenchResult {
  table: string;
  report: Record<string, unknown>;
  outcomes: Outcome[];
  lateness: number[];
  /** Where the JSON went, if it was asked for. */
  file: string | null;
}

/**
 * `octavo bench serve`: makes the prompts, sends them in time, reads every stream, prints the table and saves the
 * result. Errors: `invalid_config` for what the user can mend before anything is sent; a request that fails is part of
 * the result.
 */
export async function runServeBench(
  flags: ServeBenchFlags,
  output: Output,
): Promise<ServeBenchResult> {
  const goodput = flags.goodput ? parseGoodput(flags.goodput) : null;
  checkTiming(flags);
  const http = new HttpClient(flags.baseUrl, flags.apiKey ?? null);
  try {
    const settings = await requestSettings(flags, http);
    const vocabulary = await openVocabulary(flags, http, settings.model);
    const samples = await loadDataset(
      datasetSettings(flags),
      promptContext(flags, settings, vocabulary),
    );
    const { arrivals, facts } = planLoad(flags, settings, samples);
    output.note(heading(flags, facts));
    await warmUp(settings);
    const before = await readSpecDecode(http);
    const load = await sendAll(
      http,
      samples,
      arrivals,
      settings,
      flags,
      output,
    );
    const after = await readSpecDecode(http);
    const { outcomes, duration, lateness } = load;
    const metrics = computeMetrics(
      outcomes,
      duration,
      flags.metricPercentiles,
      goodput,
    );
    const specDecode = specDecodeStats(before, after);
    const table = renderTable(metrics, duration, specDecode, {
      ...facts,
      percentileMetrics: flags.percentileMetrics,
    });
    const now = new Date();
    const details = flags.saveDetailed ? outcomes : null;
    const report = jsonReport(
      facts,
      now,
      duration,
      metrics,
      specDecode,
      details,
    );
    output.print(table);
    output.note(latenessLine(lateness));
    for (const line of failureLines(outcomes)) output.note(line);
    const file = await save(flags, facts, now, report);
    if (file !== null) output.note(`Result written to ${file}`);
    return { table, report, outcomes, lateness, file };
  } finally {
    http.close();
  }
}

/** A trace has its own times; a burstiness shapes only the gaps of a finite rate. */
function checkTiming(flags: ServeBenchFlags): void {
  const { datasetName, requestRate, burstiness } = flags;
  const refuse = (flag: string, message: string): never => {
    throw new OctavoError("invalid_config", `--${flag}: ${message}`, flag);
  };
  if (datasetName === "trace") {
    const other = "a trace has its own arrival times (see --time-scale)";
    if (requestRate !== undefined) refuse("request-rate", other);
    if (burstiness !== undefined) refuse("burstiness", other);
  } else {
    if (flags.timeScale !== 1) refuse("time-scale", "only traces are scaled");
    if (flags.lengthScale !== 1)
      refuse("length-scale", "only traces are scaled");
    if (
      burstiness !== undefined &&
      burstiness !== 1 &&
      (requestRate ?? Infinity) === Infinity
    )
      refuse("burstiness", "there are no gaps without a finite --request-rate");
  }
}

async function requestSettings(
  flags: ServeBenchFlags,
  http: HttpClient,
): Promise<RequestSettings> {
  return {
    ...resolveEndpoint(flags),
    model: flags.model ?? (await firstModel(http)),
    ignoreEos: flags.ignoreEos,
    temperature: flags.temperature,
    seed: flags.seed,
    timeout: flags.requestTimeout,
  };
}

async function firstModel(http: HttpClient): Promise<string> {
  const url = `${http.base.href.replace(/\/+$/, "")}/v1/models`;
  const fail = (problem: string): never => {
    throw new OctavoError(
      "invalid_config",
      `Cannot ask ${url} for the model's name: ${problem}. Is the server up? (--base-url, --api-key; --model leaves the question out.)`,
      "model",
    );
  };
  let status: number;
  let text: string;
  try {
    ({ status, text } = await http.get("/v1/models"));
  } catch (error) {
    const { message, code } = error as NodeJS.ErrnoException;
    return fail(message || (code ?? "no connection"));
  }
  if (status !== 200) return fail(`HTTP ${status}`);
  try {
    const { data } = JSON.parse(text) as { data: { id: string }[] };
    const id = data[0]?.id;
    if (typeof id === "string") return id;
  } catch {
    // Falls through to the same words as a list without models.
  }
  return fail("the answer lists no model");
}

function openVocabulary(
  { tokenizer }: ServeBenchFlags,
  http: HttpClient,
  model: string,
): Vocabulary | Promise<Vocabulary> {
  return tokenizer === undefined
    ? remoteVocabulary(http, model)
    : localVocabulary(tokenizer);
}

/** A chat takes only text. A trace's prompts stay ids where they can: only then are shared prefixes exact. */
function promptContext(
  { tokenizer, datasetName }: ServeBenchFlags,
  { backend }: RequestSettings,
  vocabulary: Vocabulary,
): PromptContext {
  const asText =
    backend === "openai-chat" ||
    (tokenizer !== undefined && datasetName !== "trace");
  return { backend, vocabulary, asText };
}

function planLoad(
  flags: ServeBenchFlags,
  { backend, model }: RequestSettings,
  samples: readonly Sample[],
): { arrivals: Float64Array; facts: RunFacts } {
  const traced = flags.datasetName === "trace";
  const burstiness = flags.burstiness ?? 1;
  const rate = flags.requestRate ?? Infinity;
  const arrivals = traced
    ? Float64Array.from(samples, ({ arrival }) => arrival ?? 0)
    : arrivalTimes(
        samples.length,
        rate,
        burstiness,
        new Random(flags.seed, ARRIVALS),
      );
  const last = arrivals.at(-1) ?? 0;
  return {
    arrivals,
    facts: {
      backend,
      label: flags.label ?? null,
      model,
      tokenizer: flags.tokenizer ?? model,
      numPrompts: samples.length,
      // Of a trace: its mean, which is what it offers.
      requestRate: traced ? samples.length / last : rate,
      burstiness: traced ? null : burstiness,
      maxConcurrency: flags.maxConcurrency ?? null,
    },
  };
}

function heading(
  { baseUrl, datasetName, seed }: ServeBenchFlags,
  { model, numPrompts, requestRate, maxConcurrency }: RunFacts,
): string {
  const rate =
    requestRate === Infinity
      ? "all at once"
      : `${requestRate.toFixed(3)} req/s`;
  const limit =
    maxConcurrency === null ? "no limit" : `at most ${maxConcurrency}`;
  return `${model} at ${baseUrl}: ${numPrompts} requests of ${datasetName}, ${rate}, ${limit} in flight, seed ${seed}`;
}

async function sendAll(
  http: HttpClient,
  samples: readonly Sample[],
  arrivals: Float64Array,
  settings: RequestSettings,
  { maxConcurrency }: ServeBenchFlags,
  output: Output,
): Promise<LoadResult> {
  const requests = samples.map((sample, i) => ({
    body: requestBody(sample, i, settings),
    promptLen: sample.promptLen,
  }));
  return runLoad(
    arrivals,
    (index, origin) => {
      const { body, promptLen } = requests[index] ?? missing(index);
      return sendRequest(http, body, promptLen, settings, origin);
    },
    maxConcurrency ?? null,
    (done, total) => output.progress(done, total),
  );
}

function missing(index: number): never {
  throw new OctavoError("internal_error", `no request ${index}`);
}

async function save(
  {
    saveResult,
    saveDetailed,
    resultDir,
    resultFilename: name,
  }: ServeBenchFlags,
  facts: RunFacts,
  date: Date,
  report: Record<string, unknown>,
): Promise<string | null> {
  if (!saveResult && !saveDetailed && name === undefined) return null;
  const file = path.join(resultDir, name ?? resultFilename(facts, date));
  await mkdir(path.dirname(file), { recursive: true });
  await writeFile(file, JSON.stringify(report) + "\n");
  return file;
}
