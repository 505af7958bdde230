import { mkdir, writeFile } from "node:fs/promises";
import path from "node:path";
import { OctavoError } from "../../src/core/errors.js";
import { arrivalTimes } from "./arrivals.js";
import type { RequestSettings } from "./client.js";
import { loadDataset } from "./dataset.js";
import { datasetSettings } from "./dataset-flags.js";
import type { PromptContext } from "./dataset-settings.js";
import { HttpClient } from "./http.js";
import {
  parseGoodput,
  resolveEndpoint,
  type ServeBenchFlags,
} from "./options.js";
import type { Outcome, Sample } from "./outcome.js";
import { Random } from "../random.js";
import { resultFilename, sweepReport, type RunFacts } from "./report.js";
import {
  measureRun,
  runNotes,
  runReport,
  runTable,
  type LoadPlan,
  type Output,
  type ServeRun,
} from "./serve-run.js";
import { checkSweep, sweepPoints } from "./sweep.js";
import { sweepTable } from "./sweep-table.js";
import {
  localVocabulary,
  remoteVocabulary,
  type Vocabulary,
} from "./vocabulary.js";
import { warmUp } from "./warm-up.js";

/** Stream of the seed for arrivals. */
const ARRIVALS = 5;

export interface ServeBenchResult {
  /** What was printed: the table of vLLM, or one line a run of a sweep. */
  table: string;
  report: Record<string, unknown>;
  /** One, or one for each point of a sweep. */
  runs: ServeRun[];
  /** Of the first run. */
  outcomes: Outcome[];
  lateness: number[];
  /** Where the JSON and the page went, if they were asked for. */
  file: string | null;
  page: string | null;
}

/**
 * `octavo bench serve`: makes the prompts, sends them in time, reads every stream, prints the table and saves the result;
 * with --sweep once for each load, each time with prompts of its own. Errors: `invalid_config` for what the user can mend
 * before anything is sent; a request that fails is part of the result.
 */
export async function runServeBench(
  flags: ServeBenchFlags,
  output: Output,
): Promise<ServeBenchResult> {
  const goodput = flags.goodput ? parseGoodput(flags.goodput) : null;
  checkSweep(flags);
  const points = sweepPoints(flags.sweep ?? []);
  points.forEach((point) => checkTiming({ ...flags, ...point }));
  const http = new HttpClient(flags.baseUrl, flags.apiKey ?? null);
  try {
    const settings = await requestSettings(flags, http);
    const vocabulary = await openVocabulary(flags, http, settings.model);
    await warmUp(settings);
    const runs: ServeRun[] = [];
    for (const [i, point] of points.entries()) {
      // Another seed for each: the prefix cache would know the prompts of the run before.
      const own = { ...flags, ...point, seed: flags.seed + i };
      const samples = await loadDataset(
        datasetSettings(own),
        promptContext(own, settings, vocabulary),
      );
      const runSettings = { ...settings, seed: own.seed };
      const plan = planLoad(own, runSettings, samples);
      output.note(heading(own, plan.facts));
      runs.push(
        await measureRun(
          http,
          own,
          point,
          runSettings,
          samples,
          plan,
          goodput,
          output,
        ),
      );
    }
    return await finish(flags, runs, output);
  } finally {
    http.close();
  }
}

/** Prints, and writes what was asked for. */
async function finish(
  flags: ServeBenchFlags,
  runs: ServeRun[],
  output: Output,
): Promise<ServeBenchResult> {
  const [first] = runs;
  if (!first) throw new OctavoError("internal_error", "no run");
  const now = new Date();
  const reports = runs.map((run) => runReport(run, now, flags.saveDetailed));
  const swept = flags.sweep !== undefined;
  const table = swept ? sweepTable(runs) : runTable(first, flags);
  const report = swept
    ? sweepReport(first.facts, now, flags.sweep ?? [], reports)
    : (reports[0] ?? {});
  output.print(table);
  if (!swept) for (const line of runNotes(first)) output.note(line);
  const file = await save(flags, first.facts, now, report);
  if (file !== null) output.note(`Result written to ${file}`);
  const page = await savePage(flags, runs, now);
  if (page !== null) output.note(`Report written to ${page}`);
  const { outcomes, lateness } = first;
  return { table, report, runs, outcomes, lateness, file, page };
}

async function savePage(
  flags: ServeBenchFlags,
  runs: readonly ServeRun[],
  date: Date,
): Promise<string | null> {
  if (flags.html === undefined) return null;
  const { reportPage } = await import("../report/page.js");
  await mkdir(path.dirname(path.resolve(flags.html)), { recursive: true });
  await writeFile(flags.html, reportPage({ flags, runs, date }));
  return flags.html;
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
): LoadPlan {
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
      seed: flags.seed,
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

async function save(
  {
    saveResult,
    saveDetailed,
    resultDir,
    resultFilename: name,
    sweep,
  }: ServeBenchFlags,
  facts: RunFacts,
  date: Date,
  report: Record<string, unknown>,
): Promise<string | null> {
  if (!saveResult && !saveDetailed && name === undefined) return null;
  const own = resultFilename(facts, date);
  const file = path.join(resultDir, name ?? (sweep ? `sweep-${own}` : own));
  await mkdir(path.dirname(file), { recursive: true });
  await writeFile(file, JSON.stringify(report) + "\n");
  return file;
}
