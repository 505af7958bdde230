import { InvalidArgumentError, Option, type Command } from "commander";
import { OctavoError } from "../../src/core/errors.js";
import { number } from "../../src/cli/flags.js";
import type { Backend } from "./client.js";
import { addDatasetFlags, type DatasetFlags } from "./dataset-flags.js";
import { addRows, atLeast, type Row } from "./flag-rows.js";
import { parseSweep, type Sweep } from "./sweep.js";
import { LATENCIES, type Goodput, type Latency } from "./metrics.js";

/** Flags of `octavo bench serve` as commander gives them. */
export interface ServeBenchFlags extends DatasetFlags {
  baseUrl: string;
  backend?: Backend;
  endpoint?: string;
  model?: string;
  tokenizer?: string;
  apiKey?: string;
  label?: string;
  requestRate?: number;
  burstiness?: number;
  maxConcurrency?: number;
  requestTimeout: number;
  ignoreEos: boolean;
  temperature: number;
  goodput?: string[];
  percentileMetrics: Latency[];
  metricPercentiles: number[];
  saveResult: boolean;
  saveDetailed: boolean;
  resultDir: string;
  resultFilename?: string;
  sweep?: Sweep[];
  html?: string;
  compare?: string[];
  regressionThreshold: number;
}

const SERVER: Row[] = [
  ["--base-url <url>", "the server under load", "http://127.0.0.1:8000"],
  ["--endpoint <path>", "route (default: the backend's)"],
  ["--model <name>", "model to ask for (default: the first of /v1/models)"],
  [
    "--tokenizer <dir>",
    "model directory whose tokenizer makes and counts prompts; without one, made-up prompts are sent as token ids that the server's /tokenize knows",
  ],
  ["--label <text>", "name of the run in the JSON and its file name"],
];

const LOAD: Row[] = [
  ["--request-rate <r>", "requests per second (default: inf)", undefined, rate],
  [
    "--burstiness <f>",
    "shape of the gaps; 1: Poisson (the default), less: burstier, more: more even",
    undefined,
    number(0, 1e6, true),
  ],
  [
    "--max-concurrency <n>",
    "most requests in flight; others wait for a place",
    undefined,
    atLeast(1),
  ],
  [
    "--sweep <flag=values>",
    "run once for each value: request-rate=1,2,4,inf or max-concurrency=1,8,64 (both: every combination)",
    undefined,
    parseSweep,
  ],
  [
    "--request-timeout <s>",
    "a request that takes longer has failed",
    21_600,
    number(0, 1e6, true),
  ],
  ["--temperature <t>", "sampling temperature", 0, number(0, 100)],
  ["--ignore-eos", "generate the full output length", false],
  ["--seed <n>", "seed of prompts, lengths and arrivals", 0, atLeast(0)],
];

const RESULT: Row[] = [
  [
    "--goodput <bounds...>",
    "ttft:MS tpot:MS e2el:MS: count the requests that keep all of them",
  ],
  [
    "--percentile-metrics <list>",
    `latencies in the table: ${LATENCIES.join(",")}`,
    ["ttft", "tpot", "itl"],
    latencyList,
  ],
  [
    "--metric-percentiles <list>",
    "percentiles of each latency",
    [99],
    percentileList,
  ],
  [
    "--html <file>",
    "write a page with plots, complete in one file; reads the server's /metrics during the run",
  ],
  ["--save-result", "write the figures as JSON", false],
  ["--save-detailed", "write them with every request's own", false],
  ["--result-dir <dir>", "where to write it", "."],
  ["--result-filename <name>", "instead of label-rate-model-date.json"],
  [
    "--compare <files...>",
    "run nothing: put two saved results side by side and exit with 2 where the second is worse",
  ],
  [
    "--regression-threshold <percent>",
    "--compare: how much worse a figure may be",
    5,
    number(0, 1e6),
  ],
];

/** Declares every flag on the command. */
export function addServeBenchFlags(command: Command): void {
  addRows(command, SERVER);
  command.addOption(
    new Option(
      "--backend <name>",
      "openai (completions, the default) or openai-chat",
    ).choices(["openai", "openai-chat"]),
  );
  command.addOption(
    new Option("--api-key <key>", "key to send").env("OPENAI_API_KEY"),
  );
  addDatasetFlags(command);
  addRows(command, [...LOAD, ...RESULT]);
}

function rate(text: string): number {
  return text === "inf" ? Infinity : number(0, 1e9, true)(text);
}

function latencyList(text: string): Latency[] {
  return text.split(",").map((part) => {
    const name = LATENCIES.find((latency) => latency === part.trim());
    if (name !== undefined) return name;
    throw new InvalidArgumentError(
      `Expected some of ${LATENCIES.join(",")}, got "${part}".`,
    );
  });
}

function percentileList(text: string): number[] {
  return text.split(",").map((part) => number(0, 100)(part));
}

/** `ttft:200 e2el:5000`, as arguments or with commas. Errors: `invalid_config` that names the part. */
export function parseGoodput(parts: readonly string[]): Goodput {
  const goodput: Goodput = {};
  for (const part of parts.flatMap((text) => text.split(","))) {
    const match = /^(ttft|tpot|e2el):(\d+(?:\.\d+)?)$/.exec(part.trim());
    if (!match)
      throw new OctavoError(
        "invalid_config",
        `--goodput: expected ttft:MS, tpot:MS or e2el:MS, got "${part}"`,
        "goodput",
      );
    goodput[match[1] as keyof Goodput] = Number(match[2]);
  }
  return goodput;
}

/** What to speak, from --backend and --endpoint, which have to agree. */
export function resolveEndpoint({
  backend,
  endpoint,
}: Pick<ServeBenchFlags, "backend" | "endpoint">): {
  backend: Backend;
  endpoint: string;
} {
  const chat = endpoint?.endsWith("/chat/completions") ?? false;
  const plain = !chat && (endpoint?.endsWith("/completions") ?? false);
  const chosen = backend ?? (chat ? "openai-chat" : "openai");
  const route =
    endpoint ??
    (chosen === "openai-chat" ? "/v1/chat/completions" : "/v1/completions");
  if (endpoint !== undefined && (chosen === "openai-chat" ? !chat : !plain))
    throw new OctavoError(
      "invalid_config",
      `--endpoint: the backend ${chosen} speaks to a path that ends with ${chosen === "openai-chat" ? "/chat/completions" : "/completions"}, got "${endpoint}"`,
      "endpoint",
    );
  return {
    backend: chosen,
    endpoint: route.startsWith("/") ? route : `/${route}`,
  };
}
