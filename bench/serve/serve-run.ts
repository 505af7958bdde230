import { OctavoError } from "../../src/core/errors.js";
import { requestBody, sendRequest, type RequestSettings } from "./client.js";
import type { HttpClient } from "./http.js";
import { runLoad } from "./load.js";
import { computeMetrics, type Goodput, type Metrics } from "./metrics.js";
import { failureLines, latenessLine, serverCostLine } from "./notes.js";
import type { ServeBenchFlags } from "./options.js";
import type { Outcome, Sample } from "./outcome.js";
import { jsonReport, type RunFacts } from "./report.js";
import {
  readCpuSeconds,
  ServerSampler,
  type ServerSample,
} from "./server-samples.js";
import {
  readSpecDecode,
  specDecodeStats,
  type SpecDecodeStats,
} from "./spec-decode.js";
import { pointLabel, type SweepPoint } from "./sweep.js";
import { renderTable } from "./table.js";

/** Where a run says things: the table on stdout, everything else on stderr. */
export interface Output {
  print(text: string): void;
  note(text: string): void;
  /** @param label of a sweep's run; "" for a run alone */
  progress(done: number, total: number, label: string): void;
}

/** What is sent when. */
export interface LoadPlan {
  /** Seconds after the start, ascending. */
  arrivals: Float64Array;
  facts: RunFacts;
}

/** One load from start to end, and what it was. */
export interface ServeRun {
  /** Its place in a sweep; {} for a run alone. */
  point: SweepPoint;
  facts: RunFacts;
  outcomes: Outcome[];
  /** Seconds. */
  duration: number;
  lateness: number[];
  metrics: Metrics;
  specDecode: SpecDecodeStats | null;
  /** Of /metrics, where a page was asked for. */
  samples: readonly ServerSample[];
  /** Processor seconds of the server during the run, where its /metrics tells. */
  serverCpuSeconds: number | null;
}

/** Sends everything in time and reads every answer. */
export async function measureRun(
  http: HttpClient,
  flags: ServeBenchFlags,
  point: SweepPoint,
  settings: RequestSettings,
  samples: readonly Sample[],
  { arrivals, facts }: LoadPlan,
  goodput: Goodput | null,
  output: Output,
): Promise<ServeRun> {
  const before = await readSpecDecode(http);
  const cpuBefore = await readCpuSeconds(http);
  // Serialized before the clock starts: nothing is left to do when a request's time comes.
  const requests = samples.map((sample, i) => ({
    body: requestBody(sample, i, settings),
    promptLen: sample.promptLen,
  }));
  const sampler = flags.html === undefined ? null : new ServerSampler(http);
  sampler?.start(performance.now());
  const load = await runLoad(
    arrivals,
    (index, origin) => {
      const { body, promptLen } = requests[index] ?? missing(index);
      return sendRequest(http, body, promptLen, settings, origin);
    },
    flags.maxConcurrency ?? null,
    (done, total) => output.progress(done, total, pointLabel(point)),
  );
  const serverSamples = (await sampler?.stop()) ?? [];
  const cpuAfter = await readCpuSeconds(http);
  const after = await readSpecDecode(http);
  const { outcomes, duration, lateness } = load;
  return {
    point,
    facts,
    outcomes,
    duration,
    lateness,
    metrics: computeMetrics(
      outcomes,
      duration,
      flags.metricPercentiles,
      goodput,
    ),
    specDecode: specDecodeStats(before, after),
    samples: serverSamples,
    serverCpuSeconds:
      cpuBefore === null || cpuAfter === null ? null : cpuAfter - cpuBefore,
  };
}

function missing(index: number): never {
  throw new OctavoError("internal_error", `no request ${index}`);
}

export function runTable(
  { metrics, duration, specDecode, facts }: ServeRun,
  { percentileMetrics }: Pick<ServeBenchFlags, "percentileMetrics">,
): string {
  return renderTable(metrics, duration, specDecode, {
    ...facts,
    percentileMetrics,
  });
}

/** What stands beside the table. */
export function runNotes(run: ServeRun): string[] {
  const cost = serverCostLine(run.outcomes, run.serverCpuSeconds);
  return [
    latenessLine(run.lateness),
    ...(cost === null ? [] : [cost]),
    ...failureLines(run.outcomes),
  ];
}

export function runReport(
  run: ServeRun,
  date: Date,
  detailed: boolean,
): Record<string, unknown> {
  const { facts, duration, metrics, specDecode, outcomes } = run;
  return {
    ...jsonReport(
      facts,
      date,
      duration,
      metrics,
      specDecode,
      detailed ? outcomes : null,
    ),
    // Beyond vLLM's keys.
    seed: facts.seed,
    ...(run.serverCpuSeconds !== null && {
      server_cpu_seconds: run.serverCpuSeconds,
    }),
    ...(detailed && {
      lateness: run.lateness,
      ...(run.samples.length > 0 && { server_samples: run.samples }),
    }),
  };
}
