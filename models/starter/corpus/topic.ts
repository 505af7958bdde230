import type { Phrasings } from "./dialogue.js";

/** One question with its answers; every phrasing is one that people would type. */
export interface Topic {
  ask: Phrasings;
  answers: readonly string[];
}
