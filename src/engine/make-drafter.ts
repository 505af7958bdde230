import type { EngineConfig } from "../core/config.js";
import { assert } from "../core/errors.js";
import type { ModelRunner } from "../runner/runner.js";
import type { Drafter } from "../spec/drafter.js";
import { ModelDrafter } from "../spec/model-drafter.js";
import { NgramDrafter } from "../spec/ngram-drafter.js";
import { SuffixDrafter } from "../spec/suffix-drafter.js";
import type { PreparedDraft } from "./draft-model.js";
import type { PlannedEngine } from "./plan-engine.js";
import { slidingWindowOf } from "./sliding-window.js";

/** A draft model, and where it is to be. */
export interface DraftPlan {
  model: PreparedDraft | null;
  planned: Pick<PlannedEngine, "draftDevice" | "plan">;
}

/**
 * The drafter of a configuration, a draft model's weights loaded; undefined: nothing is speculated. Errors: invalid_model,
 * out_of_memory, device_error.
 */
export function makeDrafter(
  config: Pick<EngineConfig, "speculativeConfig" | "enablePrefixCaching">,
  draft: DraftPlan,
  progress: (done: number, total: number) => void,
): Drafter | undefined {
  const { speculativeConfig: speculation } = config;
  switch (speculation?.method) {
    case undefined:
      return undefined;
    case "ngram":
      return new NgramDrafter(speculation);
    case "suffix":
      return new SuffixDrafter(speculation);
    case "draft_model":
      return loadDraftModel(config, draft, progress);
  }
}

function loadDraftModel(
  { enablePrefixCaching }: Pick<EngineConfig, "enablePrefixCaching">,
  { model, planned: { draftDevice, plan } }: DraftPlan,
  progress: (done: number, total: number) => void,
): Drafter {
  const sizes = plan.draft?.sizes;
  assert(
    model !== null && draftDevice !== null && sizes !== undefined,
    "a draft model is planned before it is loaded",
  );
  const open = (): ModelRunner => draftDevice.load({ sizes }, progress);
  return new ModelDrafter(open(), {
    reopen: open,
    enablePrefixCaching,
    slidingWindow: slidingWindowOf(model.program),
  });
}
