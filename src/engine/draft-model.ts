import path from "node:path";
import type { EngineConfig } from "../core/config.js";
import { OctavoError } from "../core/errors.js";
import { checkSameVocabulary } from "../loader/same-vocabulary.js";
import type { OpenDevice } from "./devices.js";
import type { DraftFootprint } from "./memory-plan.js";
import { prepareModel } from "./prepare-model.js";
import type { PreparedModel } from "./prepare-model.js";

const PARAM = "speculative-config.model";

/** A model that drafts, understood and checked, but not loaded. */
export interface PreparedDraft extends PreparedModel {
  /** As it was named. */
  directory: string;
  /** The longest sequence that it takes. */
  maxModelLen: number;
}

/**
 * The model of a speculativeConfig with method draft_model (a directory); null: there is none. Errors: those of
 * prepareModel; invalid_config where its tokens are not those of the model that it drafts for.
 */
export async function prepareDraft(
  config: EngineConfig,
): Promise<PreparedDraft | null> {
  const { speculativeConfig: speculation, loadFormat } = config;
  if (speculation?.method !== "draft_model") return null;
  const directory = path.resolve(speculation.model);
  const prepared = await naming(directory, () =>
    prepareModel({ model: directory, modelFile: null, loadFormat }),
  );
  checkSameVocabulary(path.resolve(config.model), directory, PARAM);
  const { maxModelLen } = speculation;
  if (maxModelLen !== null && maxModelLen > prepared.maxPositionEmbeddings)
    throw new OctavoError(
      "invalid_config",
      `speculative-config.max_model_len: expected at most ${prepared.maxPositionEmbeddings}, the draft model's own limit, got ${maxModelLen}`,
      "speculative-config.max_model_len",
    );
  return {
    ...prepared,
    directory,
    maxModelLen: maxModelLen ?? prepared.maxPositionEmbeddings,
  };
}

/** What goes wrong with the draft model is not to be taken for the other one's. */
async function naming<T>(
  directory: string,
  make: () => Promise<T>,
): Promise<T> {
  try {
    return await make();
  } catch (error) {
    if (!(error instanceof OctavoError)) throw error;
    throw new OctavoError(
      error.code,
      `${PARAM} (${directory}): ${error.message}`,
      PARAM,
      { cause: error },
    );
  }
}

export function draftFootprint(
  { maxModelLen }: PreparedDraft,
  { footprint, weightBytes, memory }: OpenDevice,
): DraftFootprint {
  return { program: footprint, maxModelLen, weightBytes, device: memory };
}
