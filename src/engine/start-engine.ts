import type { EngineConfig } from "../core/config.js";
import type { ModelRunner } from "../runner/runner.js";
import type { Drafter } from "../spec/drafter.js";
import { prepareDraft } from "./draft-model.js";
import type { TuneHooks } from "./devices.js";
import { Engine } from "./engine.js";
import { makeDrafter } from "./make-drafter.js";
import type { FromEngine } from "./messages.js";
import { planEngine } from "./plan-engine.js";
import { prepareModel } from "./prepare-model.js";
import { slidingWindowOf } from "./sliding-window.js";
import { threadsWarning } from "./threads-warning.js";

export interface StartedEngine {
  engine: Engine;
  /** The one that computes now; another one after a restart. */
  readonly runner: ModelRunner;
  /** Gives all memory back; nothing is called after it. */
  close(): void;
}

/**
 * Reads the model's description, plans memory, loads the weights and makes the engine. Emits `plan` before loading,
 * `progress` and `notice` while, `ready` after. Throws OctavoError: invalid_config, invalid_model, unsupported_model,
 * out_of_memory, device_error.
 */
export async function startEngine(
  config: EngineConfig,
  emit: (message: FromEngine) => void,
): Promise<StartedEngine> {
  const model = await prepareModel(config);
  const draft = await prepareDraft(config);
  const planned = planEngine(config, model, draft);
  const { device, plan, info } = planned;
  emit({ type: "plan", info });
  const said = new Set<string>();
  const hooks: TuneHooks = {
    progress: (done, total) =>
      emit({ type: "progress", phase: "tiles", done, total }),
    notice: (text) => {
      if (!said.has(text)) emit({ type: "notice", text });
      said.add(text);
    },
  };
  const tooManyThreads = threadsWarning(config.threads, device.description);
  if (tooManyThreads !== null) hooks.notice?.(tooManyThreads);
  device.tune(plan, hooks);
  if (plan.draft) planned.draftDevice?.tune(plan.draft, hooks);
  const progress = (done: number, total: number): void =>
    emit({ type: "progress", phase: "weights", done, total });
  const load = (): ModelRunner => device.load(plan, progress);
  const runner = load();
  let drafter: Drafter | undefined;
  try {
    drafter = makeDrafter(config, { model: draft, planned }, progress);
    const engine = new Engine(runner, config, {
      ...(drafter && { drafter }),
      slidingWindow: slidingWindowOf(model.program),
      reopen: load,
    });
    emit({ type: "ready", info, memory: runner.memory });
    return {
      engine,
      get runner() {
        return engine.runner;
      },
      close: () => {
        engine.runner.close();
        drafter?.close();
      },
    };
  } catch (error) {
    runner.close();
    drafter?.close();
    throw error;
  }
}
