import type { ErrorCode } from "../core/errors.js";
import type { ChannelSizes } from "./channel.js";
import type { GrammarSpec } from "./spec.js";
import type { VocabularyData } from "./vocabulary.js";

export interface GrammarWorkerData {
  memory: SharedArrayBuffer;
  sizes: ChannelSizes;
  vocabulary: VocabularyData;
  /** Grammars that the worker before this one held for requests under way. */
  restore: { grammar: number; spec: GrammarSpec }[];
  /** Compile a few grammars for practice as long as the bell has this value; null: don't. */
  practiseWhile: number | null;
}

/** Main thread -> worker; the bell of its channel is rung after each. */
export type ToGrammarWorker =
  | { type: "compile"; grammar: number; spec: GrammarSpec }
  | { type: "forget"; grammar: number }
  | { type: "close" };

/** Worker -> main thread. */
export type FromGrammarWorker =
  | { type: "ready" }
  /** After `ready`, of a worker that was to practise. */
  | { type: "warm" }
  | { type: "compiled"; grammar: number }
  | {
      type: "refused";
      grammar: number;
      error: { code: ErrorCode; message: string; param: string | null };
    }
  /** XGrammar gave up and can't be used any more: the worker ends. `grammar`: what it was compiling, or -1. */
  | { type: "aborted"; grammar: number; reason: string };
