/** The engine over the native runner, in this process: whole requests in, tokens and log-probabilities out. */
import { ENGINE_DEFAULTS } from "../../src/core/config.js";
import type { EngineConfig } from "../../src/core/config.js";
import { EventKind, readEvents } from "../../src/core/events.js";
import { FINISH_REASON_NAMES, FinishReason } from "../../src/core/request.js";
import type { Request } from "../../src/core/request.js";
import type { Engine } from "../../src/engine/engine.js";
import type { StepResult } from "../../src/engine/step-report.js";
import { startEngine } from "../../src/engine/start-engine.js";

/** What came of one choice: tokens and raw log-probabilities, to be compared bit for bit. */
export interface Outcome {
  tokens: number[];
  logprobs: number[];
  top: [id: number, logprob: number][][];
  promptLogprobs: number[];
  finish: string;
  cachedTokens: number;
}

export interface NativeEngine {
  engine: Engine;
  outcomes: Map<string, Outcome>;
  stats: StepResult["stats"] | null;
  /** Adds requests, `perStep` before each step, and runs until nothing is left. */
  run(requests: readonly Request[], perStep: number): void;
  close(): void;
}

export async function openEngine(
  model: string,
  config: Partial<EngineConfig>,
): Promise<NativeEngine> {
  const { engine, runner } = await startEngine(
    { ...ENGINE_DEFAULTS, model, device: "cpu", ...config },
    () => undefined,
  );
  const opened: NativeEngine = {
    engine,
    outcomes: new Map(),
    stats: null,
    run(requests, perStep) {
      const left = [...requests];
      while (left.length > 0 || !engine.idle) {
        for (const request of left.splice(0, perStep)) engine.add(request);
        const result = engine.step();
        if (result) {
          record(opened.outcomes, result);
          opened.stats = structuredClone(result.stats);
        }
      }
      engine.checkIntegrity();
    },
    close: () => runner.close(),
  };
  return opened;
}

function record(outcomes: Map<string, Outcome>, result: StepResult): void {
  for (const { handle, numCachedTokens } of result.admitted)
    outcomeOf(outcomes, handle, 0).cachedTokens = numCachedTokens;
  readEvents(result.events.toMessage(), (event) => {
    const outcome = outcomeOf(outcomes, event.handle, event.choice);
    if (event.kind === EventKind.promptLogprob) {
      outcome.promptLogprobs.push(event.logprob);
      return;
    }
    if (event.kind === EventKind.token) {
      outcome.tokens.push(event.token);
      outcome.logprobs.push(event.logprob);
      outcome.top.push(
        Array.from(
          event.topIds.slice(0, Math.max(0, event.numTop)),
          (id, i) => [id, event.topLogprobs[i] ?? NaN],
        ),
      );
    }
    if (event.finish !== FinishReason.none)
      outcome.finish = FINISH_REASON_NAMES[event.finish];
  });
}

function outcomeOf(
  outcomes: Map<string, Outcome>,
  handle: number,
  choice: number,
): Outcome {
  const key = `${handle}.${choice}`;
  let outcome = outcomes.get(key);
  if (!outcome) {
    outcome = {
      tokens: [],
      logprobs: [],
      top: [],
      promptLogprobs: [],
      finish: "",
      cachedTokens: -1,
    };
    outcomes.set(key, outcome);
  }
  return outcome;
}
