import { InvalidArgumentError, Option, type Command } from "commander";
import { OctavoError } from "../../core/errors.js";
import { camelCase, integer, number } from "../flags.js";
import type { Acceptance, MemoryInput, SpeculationInput } from "./estimate.js";
import type { ModelShape } from "../../engine/model-shape.js";

/** The options of `octavo doctor --estimate` as commander parses them; what was not given is undefined. */
export interface EstimateOptions extends Record<string, unknown> {
  acceptanceRate?: number;
  conditionalAcceptance?: number;
  numSpeculativeTokens?: number;
  draftCost?: number;
  rowCost?: number;
  parameters?: number;
  bits?: number;
  groupSize?: number;
  kvValuesPerToken?: number;
  kvBits?: number;
  contextLen?: number;
  batchSize?: number;
  bandwidth?: number;
}

type Row = [name: string, value: string, help: string, parse: unknown];

const SPECULATION: readonly Row[] = [
  [
    "acceptance-rate",
    "r",
    "accepted / drafted tokens (bench serve and /metrics have it)",
    number(0, 1),
  ],
  [
    "conditional-acceptance",
    "a",
    "share of drafts that are right where those before were",
    number(0, 1),
  ],
  ["num-speculative-tokens", "k", "drafts of a step (4)", integer(1, 1024)],
  [
    "draft-cost",
    "c",
    "of drafting one token, in plain steps (0)",
    number(0, 1000),
  ],
  [
    "row-cost",
    "v",
    "of each further row to verify, in plain steps (0)",
    number(0, 1000),
  ],
];

const KV: readonly Row[] = [
  ["kv-bits", "B", "of a value in the KV cache (16)", integer(1, 32)],
  ["context-len", "t", "tokens of each sequence (1024)", integer(0, 1e9)],
];

const MEMORY: readonly Row[] = [
  [
    "parameters",
    "n",
    "weights of a model that is not here: 8e9, 8B, 350M",
    count,
  ],
  ["bits", "b", "of a weight (the model's own, else 4)", integer(1, 32)],
  [
    "group-size",
    "g",
    "weights that share a scale and a zero point; 0: none (the model's own, else 128 below 16 bits)",
    integer(0, 1 << 20),
  ],
  [
    "kv-values-per-token",
    "h",
    "2 x layers x KV heads x head dim, of a model that is not here (without: no KV cache)",
    integer(0, 1e9),
  ],
  ...KV,
  ["batch-size", "s", "sequences (1)", integer(1, 1e6)],
  [
    "bandwidth",
    "GB/s",
    "of the memory, for the floor of a decoding step",
    number(0, 1e6, true),
  ],
];

const ROWS = [...SPECULATION, ...MEMORY];

export function addEstimateOptions(command: Command): void {
  command.option(
    "--estimate",
    "compute instead: tokens per step and speed-up of speculation, memory by bits, floor of a step",
  );
  for (const [name, value, help, parse] of ROWS)
    command.addOption(
      new Option(`--${name} <${value}>`, `--estimate: ${help}`).argParser(
        parse as (text: string) => unknown,
      ),
    );
}

/** 8e9, 8000000000, 8B, 1.1b or 350M. */
function count(text: string): number {
  const match = /^([\d.]+(?:e\d+)?)\s*([kmbt]?)$/i.exec(text.trim());
  const scale = { "": 1, k: 1e3, m: 1e6, b: 1e9, t: 1e12 };
  const suffix = (match?.[2] ?? "").toLowerCase() as keyof typeof scale;
  const value = Number(match?.[1]) * scale[suffix];
  if (!Number.isFinite(value) || value < 1 || value > 1e15)
    throw new InvalidArgumentError(
      `Expected a number of weights from 1 to 1e15, as 8e9, 8B or 350M, got "${text}".`,
    );
  return value;
}

/** What was given of the estimate's own options. */
export function givenEstimateOptions(command: Command): string[] {
  return ROWS.map(([name]) => name).filter(
    (name) => command.getOptionValue(camelCase(name)) !== undefined,
  );
}

/** Null: nothing about speculation was asked. Throws invalid_config. */
export function speculationInput(
  options: EstimateOptions,
): SpeculationInput | null {
  const { acceptanceRate, conditionalAcceptance } = options;
  if (acceptanceRate !== undefined && conditionalAcceptance !== undefined)
    throw new OctavoError(
      "invalid_config",
      "--acceptance-rate: expected it or --conditional-acceptance, got both: each follows from the other.",
      "acceptance-rate",
    );
  const acceptance: Acceptance | null =
    acceptanceRate !== undefined
      ? { kind: "rate", value: acceptanceRate }
      : conditionalAcceptance !== undefined
        ? { kind: "conditional", value: conditionalAcceptance }
        : null;
  if (acceptance === null) {
    refuseWithout(
      options,
      SPECULATION,
      "--acceptance-rate or --conditional-acceptance",
    );
    return null;
  }
  return {
    acceptance,
    numSpeculativeTokens: options.numSpeculativeTokens ?? 4,
    draftCost: options.draftCost ?? 0,
    rowCost: options.rowCost ?? 0,
  };
}

/** Null: nothing about memory was asked. Throws invalid_config. */
export function memoryInput(
  options: EstimateOptions,
  model: ModelShape | null,
): MemoryInput | null {
  const { parameters, kvValuesPerToken } = options;
  if (model && (parameters !== undefined || kvValuesPerToken !== undefined)) {
    const name =
      parameters !== undefined ? "parameters" : "kv-values-per-token";
    throw new OctavoError(
      "invalid_config",
      `--${name}: expected it or a MODEL, whose config.json says it, got both.`,
      name,
    );
  }
  if (!model && parameters === undefined) {
    refuseWithout(options, MEMORY, "--parameters or a MODEL");
    return null;
  }
  const values = model?.kvValuesPerToken ?? kvValuesPerToken ?? null;
  if (values === null)
    refuseWithout(options, KV, "--kv-values-per-token or a MODEL");
  const bits = options.bits ?? model?.bits ?? 4;
  return {
    weights: model?.weights ?? {
      packed: parameters ?? 0,
      dense: 0,
      embedding: 0,
    },
    bits,
    groupSize: options.groupSize ?? groupSizeOf(bits, model),
    kvValuesPerToken: values,
    kvBits: options.kvBits ?? 16,
    contextLen: options.contextLen ?? 1024,
    batchSize: options.batchSize ?? 1,
    bandwidth: options.bandwidth === undefined ? null : options.bandwidth * 1e9,
  };
}

const USUAL_GROUP = 128;

function groupSizeOf(bits: number, model: ModelShape | null): number {
  if (bits >= 16) return 0;
  return model && model.groupSize > 0 ? model.groupSize : USUAL_GROUP;
}

/** An option without the one that it goes with would be ignored. */
function refuseWithout(
  options: EstimateOptions,
  rows: readonly Row[],
  needed: string,
): void {
  const given = rows.find(([name]) => options[camelCase(name)] !== undefined);
  if (given)
    throw new OctavoError(
      "invalid_config",
      `--${given[0]}: expected ${needed} with it, got none.`,
      given[0],
    );
}
