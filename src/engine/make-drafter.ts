import type { SpeculativeConfig } from "../core/speculative-config.js";
import { OctavoError } from "../core/errors.js";
import type { Drafter } from "../spec/drafter.js";
import { NgramDrafter } from "../spec/ngram-drafter.js";
import { SuffixDrafter } from "../spec/suffix-drafter.js";

/** The drafter of a configuration. Errors: invalid_config. */
export function makeDrafter(config: SpeculativeConfig): Drafter {
  switch (config.method) {
    case "ngram":
      return new NgramDrafter(config);
    case "suffix":
      return new SuffixDrafter(config);
    case "draft_model":
      throw new OctavoError(
        "invalid_config",
        'speculative-config.method: "draft_model" is not built yet; "ngram" and "suffix" are.',
        "speculative-config.method",
      );
  }
}
