import { InvalidArgumentError } from "commander";
import { OctavoError } from "../../src/core/errors.js";
import { integer, number } from "../../src/cli/flags.js";
import type { ServeBenchFlags } from "./options.js";

/** What may be swept, and how its flag reads a value. */
const SWEPT = {
  "request-rate": (text: string) =>
    text === "inf" ? Infinity : number(0, 1e9, true)(text),
  "max-concurrency": integer(1),
} as const;
export type SweepName = keyof typeof SWEPT;

export interface Sweep {
  name: SweepName;
  values: number[];
}

/** One run of a sweep. */
export interface SweepPoint {
  requestRate?: number;
  maxConcurrency?: number;
}

/** commander's parser of a repeatable `--sweep request-rate=1,2,inf`. */
export function parseSweep(text: string, previous?: Sweep[]): Sweep[] {
  const match = /^([\w-]+)=(.+)$/.exec(text);
  const name = Object.keys(SWEPT).find((one) => one === match?.[1]);
  if (!match || name === undefined)
    throw new InvalidArgumentError(
      `Expected request-rate=R,R,... or max-concurrency=N,N,..., got "${text}".`,
    );
  const parse = SWEPT[name as SweepName];
  const values = (match[2] ?? "").split(",").map((part) => parse(part.trim()));
  const sweeps = [...(previous ?? []), { name: name as SweepName, values }];
  if (new Set(sweeps.map((one) => one.name)).size < sweeps.length)
    throw new InvalidArgumentError(`Expected ${name} once, got it again.`);
  return sweeps;
}

/** Every combination; the last sweep varies fastest. */
export function sweepPoints(sweeps: readonly Sweep[]): SweepPoint[] {
  return sweeps.reduce<SweepPoint[]>(
    (points, { name, values }) =>
      points.flatMap((point) =>
        values.map((value) => ({
          ...point,
          ...(name === "request-rate"
            ? { requestRate: value }
            : { maxConcurrency: value }),
        })),
      ),
    [{}],
  );
}

/** "4 req/s, 8 in flight": what a run of a sweep is called. */
export function pointLabel({
  requestRate,
  maxConcurrency,
}: SweepPoint): string {
  const parts = [];
  if (requestRate !== undefined)
    parts.push(requestRate === Infinity ? "inf" : `${requestRate} req/s`);
  if (maxConcurrency !== undefined) parts.push(`${maxConcurrency} in flight`);
  return parts.join(", ");
}

/** A sweep decides what its flag would; a trace has its own times. */
export function checkSweep(flags: ServeBenchFlags): void {
  for (const { name } of flags.sweep ?? []) {
    const given =
      name === "request-rate" ? flags.requestRate : flags.maxConcurrency;
    if (given !== undefined)
      throw new OctavoError(
        "invalid_config",
        `--sweep ${name}: expected no --${name} beside it, got ${given}`,
        "sweep",
      );
    if (name === "request-rate" && flags.datasetName === "trace")
      throw new OctavoError(
        "invalid_config",
        "--sweep request-rate: a trace has its own arrival times",
        "sweep",
      );
  }
}
