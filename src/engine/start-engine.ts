import type { EngineConfig } from "../core/config.js";
import type { ModelRunner } from "../runner/runner.js";
import { Engine } from "./engine.js";
import { makeDrafter } from "./make-drafter.js";
import type { FromEngine } from "./messages.js";
import { planEngine } from "./plan-engine.js";
import { prepareModel } from "./prepare-model.js";
import { slidingWindowOf } from "./sliding-window.js";

export interface StartedEngine {
  engine: Engine;
  /** The one that computes now; another one after a restart. */
  readonly runner: ModelRunner;
}

/**
 * Reads the model's description, plans memory, loads the weights and makes the engine. Emits `plan` before loading,
 * `progress` while, `ready` after. Throws OctavoError: invalid_config, invalid_model, unsupported_model, out_of_memory,
 * device_error.
 */
export async function startEngine(
  config: EngineConfig,
  emit: (message: FromEngine) => void,
): Promise<StartedEngine> {
  const model = await prepareModel(config);
  const { device, plan, info } = planEngine(config, model);
  emit({ type: "plan", info });
  const load = (): ModelRunner =>
    device.load(plan, (done, total) =>
      emit({ type: "progress", phase: "weights", done, total }),
    );
  const runner = load();
  try {
    const { speculativeConfig } = config;
    const engine = new Engine(runner, config, {
      ...(speculativeConfig && { drafter: makeDrafter(speculativeConfig) }),
      slidingWindow: slidingWindowOf(model.program),
      reopen: load,
    });
    emit({ type: "ready", info, memory: runner.memory });
    return {
      engine,
      get runner() {
        return engine.runner;
      },
    };
  } catch (error) {
    runner.close();
    throw error;
  }
}
