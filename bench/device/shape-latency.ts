import { machineLines, measureMachine, type Machine } from "../machine.js";
import { InProcessEngine, type BenchRequest } from "../engine/in-process.js";
import { benchEngineConfig } from "../engine/flags.js";
import { Random } from "../random.js";
import { percentile } from "../serve/statistics.js";
import type { EngineConfig } from "../../src/core/config.js";
import type { RunnerGraphs } from "../../src/runner/addon.js";
import {
  decodeFloorSeconds,
  prefillFlop,
  workOf,
  type DeviceCeilings,
} from "./floors.js";
import { shapeConfig, withShape, type ShapeName } from "./shapes.js";

export interface LoadFlags {
  device: EngineConfig["device"];
  batchSizes: readonly number[];
  inputLen: number;
  outputLen: number;
  numIters: number;
}

/** One batch, from prompts to last tokens; medians over iterations. Seconds. */
export interface BatchFigures {
  batchSize: number;
  /** Until every sequence has its first token. */
  prefillSeconds: number;
  prefillTokensPerSecond: number;
  /** Of a decoding step. */
  decodeSeconds: number;
  decodeTokensPerSecond: number;
  /** Of this device's own ceilings; null where they were not measured. */
  decodeFloorSeconds: number | null;
  decodeFloorShare: number | null;
  prefillMatrixShare: number | null;
}

export interface ShapeLatency {
  shape: ShapeName;
  machine: Machine;
  inputLen: number;
  outputLen: number;
  numIters: number;
  startSeconds: number;
  weightBytes: number;
  graphs: RunnerGraphs;
  batches: BatchFigures[];
}

/** Prompt and output of the run that warms an engine up. */
const WARM_UP = { inputLen: 64, outputLen: 8 };

/** Prefill and decoding of one shape with made-up INT4 weights: one engine, all batch sizes, beside the floors. */
export function measureShape(
  shape: ShapeName,
  flags: LoadFlags,
  ceilings: DeviceCeilings | null,
  print: (line: string) => void,
): Promise<ShapeLatency> {
  return withShape(shape, async (model) => {
    const machine = measureMachine(flags.device, 0);
    machineLines(machine, 0).forEach(print);
    const engine = await startShape(model, flags, {});
    try {
      const { info, memory } = engine;
      const { inputLen, outputLen, numIters } = flags;
      const batches = flags.batchSizes.map((batchSize) => {
        const figures = measureBatch(engine, batchSize, flags);
        const rated = rate(shape, info.weightBytes, figures, flags, ceilings);
        print(batchLine(shape, rated));
        return rated;
      });
      return {
        shape,
        machine,
        inputLen,
        outputLen,
        numIters,
        startSeconds: engine.startSeconds,
        weightBytes: info.weightBytes,
        graphs: memory.graphs,
        batches,
      };
    } finally {
      engine.close();
    }
  });
}

export function startShape(
  model: string,
  { device, batchSizes, inputLen, outputLen }: LoadFlags,
  overrides: Partial<EngineConfig>,
): Promise<InProcessEngine> {
  return InProcessEngine.start(
    {
      ...benchEngineConfig({
        model,
        seed: 0,
        device,
        loadFormat: "dummy",
        enablePrefixCaching: false,
        maxNumSeqs: Math.max(8, ...batchSizes),
        maxModelLen: Math.max(
          inputLen + outputLen,
          WARM_UP.inputLen + WARM_UP.outputLen,
        ),
      }),
      ...overrides,
    },
    () => undefined,
  );
}

export function madeUpRequests(
  count: number,
  { inputLen, outputLen }: { inputLen: number; outputLen: number },
  vocabSize: number,
): BenchRequest[] {
  const random = new Random(0);
  return Array.from({ length: count }, () => ({
    promptTokenIds: Int32Array.from({ length: inputLen }, () =>
      random.integer(0, vocabSize - 1),
    ),
    outputLen,
  }));
}

/** Plain draws, to the full length. */
export const DRAWN = { temperature: 1, ignoreEos: true, seed: 0 };

function measureBatch(
  engine: InProcessEngine,
  batchSize: number,
  flags: LoadFlags,
): { prefill: number; decode: number; batchSize: number } {
  const { vocabSize } = engine.info;
  engine.run(madeUpRequests(batchSize, WARM_UP, vocabSize), DRAWN);
  const prefill: number[] = [];
  const decode: number[] = [];
  for (let i = 0; i < flags.numIters; i++) {
    const run = engine.run(madeUpRequests(batchSize, flags, vocabSize), DRAWN);
    const first = Math.max(...run.timings.map(({ firstToken }) => firstToken));
    prefill.push(first);
    decode.push((run.seconds - first) / (flags.outputLen - 1));
  }
  const median = (values: number[]): number =>
    percentile(Float64Array.from(values).sort(), 50);
  return { batchSize, prefill: median(prefill), decode: median(decode) };
}

function rate(
  shape: ShapeName,
  weightBytes: number,
  { batchSize, prefill, decode }: ReturnType<typeof measureBatch>,
  { inputLen, outputLen }: LoadFlags,
  ceilings: DeviceCeilings | null,
): BatchFigures {
  const work = workOf(shapeConfig(shape));
  const context = inputLen + outputLen / 2;
  const floor =
    ceilings &&
    decodeFloorSeconds(work, weightBytes, batchSize, context, ceilings);
  const flop = prefillFlop(work, batchSize, inputLen);
  return {
    batchSize,
    prefillSeconds: prefill,
    prefillTokensPerSecond: (batchSize * inputLen) / prefill,
    decodeSeconds: decode,
    decodeTokensPerSecond: batchSize / decode,
    decodeFloorSeconds: floor,
    decodeFloorShare: floor && floor / decode,
    prefillMatrixShare:
      ceilings && flop / prefill / ceilings.matrixFlopPerSecond,
  };
}

function batchLine(shape: ShapeName, figures: BatchFigures): string {
  const { batchSize, decodeSeconds, prefillSeconds } = figures;
  const share = (value: number | null, of: string): string =>
    value === null ? "" : ` (${(value * 100).toFixed(0)} % of ${of})`;
  return (
    `${shape}, batch ${batchSize}: prefill ${prefillSeconds.toFixed(3)} s, ${figures.prefillTokensPerSecond.toFixed(0)} tok/s` +
    `${share(figures.prefillMatrixShare, "the matrix rate")}; decode ${(decodeSeconds * 1e3).toFixed(2)} ms a step, ` +
    `${figures.decodeTokensPerSecond.toFixed(0)} tok/s${share(figures.decodeFloorShare, "the floor")}`
  );
}
