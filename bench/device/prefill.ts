import { percentile } from "../serve/statistics.js";
import { prefillFlop, workOf, type DeviceCeilings } from "./floors.js";
import {
  DRAWN,
  madeUpRequests,
  startShape,
  type LoadFlags,
} from "./shape-latency.js";
import { shapeConfig, withShape, type ShapeName } from "./shapes.js";

/** Prompts under --no-batch-invariant. Seconds. */
export interface VariantPrefill {
  device: string;
  shape: ShapeName;
  batchSize: number;
  /** What computed the linears: whether the matmul library was there. */
  linearKernels: string | null;
  prefillSeconds: number;
  prefillTokensPerSecond: number;
  /** Of the measured matrix rate; null where it was not measured. */
  prefillMatrixShare: number | null;
}

/** Enough rows for the matmul library, in a batch that prefills within seconds. */
const MOST_PROMPTS = 16;

/** Prefill of one shape where results may depend on the batch: the matmul library takes many rows. */
export function measureVariantPrefill(
  shape: ShapeName,
  flags: LoadFlags,
  ceilings: DeviceCeilings | null,
  print: (line: string) => void,
): Promise<VariantPrefill> {
  const batchSize = Math.min(MOST_PROMPTS, Math.max(...flags.batchSizes));
  return withShape(shape, async (model) => {
    const load = { ...flags, batchSizes: [batchSize], outputLen: 1 };
    const engine = await startShape(model, load, { batchInvariant: false });
    try {
      const { device, linearKernels, vocabSize } = engine.info;
      const requests = madeUpRequests(batchSize, load, vocabSize);
      engine.run(requests, DRAWN);
      const seconds = Array.from(
        { length: flags.numIters },
        () => engine.run(requests, DRAWN).seconds,
      );
      const prefillSeconds = percentile(Float64Array.from(seconds).sort(), 50);
      const flop = prefillFlop(
        workOf(shapeConfig(shape)),
        batchSize,
        flags.inputLen,
      );
      const result = {
        ...{ device, shape, batchSize, linearKernels, prefillSeconds },
        prefillTokensPerSecond: (batchSize * flags.inputLen) / prefillSeconds,
        prefillMatrixShare:
          ceilings && flop / prefillSeconds / ceilings.matrixFlopPerSecond,
      };
      print(
        `${shape}, batch ${batchSize}, not batch-invariant (${linearKernels ?? "one way of computing"}): prefill ${prefillSeconds.toFixed(3)} s, ${result.prefillTokensPerSecond.toFixed(0)} tok/s`,
      );
      return result;
    } finally {
      engine.close();
    }
  });
}
