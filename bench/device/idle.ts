import { OctavoError } from "../../src/core/errors.js";
import type { InProcessEngine } from "../engine/in-process.js";
import {
  DRAWN,
  madeUpRequests,
  startShape,
  type LoadFlags,
} from "./shape-latency.js";
import { withShape, type ShapeName } from "./shapes.js";

/** Decoding with every sequence running: what of the time the device computes. Seconds. */
export interface IdleFigures {
  device: string;
  shape: ShapeName;
  batchSize: number;
  oneStepAhead: boolean;
  graphs: boolean;
  steps: number;
  wallSeconds: number;
  /** By the device's clock: forward, head and sampling of those steps. */
  computeSeconds: number;
  /** 1 - computeSeconds / wallSeconds: waiting, and bringing inputs in place. */
  idleShare: number;
}

/** Prompts are short: it is the decoding steps that count. */
const PROMPT = 16;

/** The idle share with one-step-ahead scheduling and without it, at each batch size. */
export async function measureIdle(
  shape: ShapeName,
  flags: LoadFlags,
  print: (line: string) => void,
): Promise<IdleFigures[]> {
  const results: IdleFigures[] = [];
  for (const oneStepAhead of [true, false])
    await withShape(shape, async (model) => {
      const engine = await startShape(model, flags, {
        asyncScheduling: oneStepAhead,
      });
      try {
        for (const batchSize of flags.batchSizes) {
          const measured = decodeOnly(engine, batchSize, flags.outputLen);
          const graphs = engine.memory.graphs.count > 0;
          const result = {
            ...{ device: engine.info.device, shape, batchSize },
            ...{ oneStepAhead, graphs },
            ...measured,
            idleShare: 1 - measured.computeSeconds / measured.wallSeconds,
          };
          results.push(result);
          print(
            `${shape}, batch ${batchSize}, one step ahead ${oneStepAhead ? "on" : "off"}: idle ${(result.idleShare * 100).toFixed(1)} % of ${result.steps} steps`,
          );
        }
      } finally {
        engine.close();
      }
    });
  return results;
}

interface Stretch {
  began: number;
  ended: number;
  steps: number;
  computeSeconds: number;
}

/** The longest stretch of steps that decode one token of every sequence, from the collect of its first to that of its last. */
function decodeOnly(
  engine: InProcessEngine,
  batchSize: number,
  outputLen: number,
): Pick<IdleFigures, "steps" | "wallSeconds" | "computeSeconds"> {
  const lengths = { inputLen: PROMPT, outputLen };
  const requests = madeUpRequests(batchSize, lengths, engine.info.vocabSize);
  let longest: Stretch | null = null;
  let current: Stretch | null = null;
  engine.run(requests, {
    ...DRAWN,
    onStep: ({ tokens, computeSeconds }) => {
      const now = performance.now();
      if (tokens !== batchSize) {
        current = null;
        return;
      }
      if (current) {
        current.ended = now;
        current.steps++;
        current.computeSeconds += computeSeconds;
      }
      // The first step opens the stretch and lies outside of it.
      current ??= { began: now, ended: now, steps: 0, computeSeconds: 0 };
      if (!longest || current.steps > longest.steps) longest = current;
    },
  });
  const { began, ended, steps, computeSeconds } = required(longest);
  return { steps, wallSeconds: (ended - began) / 1000, computeSeconds };
}

function required(stretch: Stretch | null): Stretch {
  if (stretch && stretch.steps > 0) return stretch;
  throw new OctavoError(
    "invalid_config",
    "--output-len: expected enough tokens for two steps that decode every sequence, got none",
    "output-len",
  );
}
