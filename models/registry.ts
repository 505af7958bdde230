/** Architecture name -> the file that describes it. */
import { OctavoError } from "../src/core/errors.js";
import type { GraphBuilder } from "./graph.js";
import * as llama from "./llama.js";
import * as mistral from "./mistral.js";
import type { ModelConfig } from "./model-config.js";
import * as qwen2 from "./qwen2.js";
import * as qwen3 from "./qwen3.js";

/** What a model file exports. */
export interface ModelFamily {
  /** As config.json's `architectures` names them. */
  architectures: readonly string[];
  /** Records the model's ops; must end in g.logits(). */
  build(g: GraphBuilder, config: ModelConfig): void;
}

const FAMILIES: readonly ModelFamily[] = [llama, mistral, qwen2, qwen3];

/** Every architecture that is built in, in alphabetical order. */
export const SUPPORTED_ARCHITECTURES: readonly string[] = FAMILIES.flatMap(
  (family) => family.architectures,
).sort();

/** The family of an architecture. Errors: `unsupported_model`, naming those that work. */
export function findFamily(architecture: string): ModelFamily {
  const family = FAMILIES.find((f) => f.architectures.includes(architecture));
  if (!family)
    throw new OctavoError(
      "unsupported_model",
      `config.json: architecture ${architecture} is not built in. Built in: ${SUPPORTED_ARCHITECTURES.join(", ")}. --model-file FILE takes one from outside.`,
      "architectures",
    );
  return family;
}
