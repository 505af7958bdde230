import { randomInt } from "node:crypto";
import type { Sequence } from "../core/sequence.js";
import type { SuffixConfig } from "../core/speculative-config.js";
import { ContextIndex } from "./token-contexts.js";
import { MAX_GRADE } from "./drafter.js";
import type { DraftBatch, Drafter } from "./drafter.js";
import { RecentOutputs } from "./recent-outputs.js";
import { SuffixPath, SuffixSearch } from "./suffix-path.js";

/** Positions of a sequence's own index: more than any context has. */
const OWN_CAPACITY = 2 ** 30;
const OWN_GROUP = 0;

/**
 * Continues the last tokens of a sequence as they were continued before, in itself (prompt and output) or in recent
 * outputs of requests with its cache salt; SuffixSearch says which continuation. A step costs microseconds a sequence,
 * whatever is remembered.
 */
export class SuffixDrafter implements Drafter {
  readonly method = "suffix";
  private readonly seed = randomInt(2 ** 31);
  private readonly own = new Map<Sequence, ContextIndex>();
  private readonly recent: RecentOutputs;
  private readonly search: SuffixSearch;
  private readonly best: SuffixPath;

  constructor(config: Omit<SuffixConfig, "adaptive">) {
    const { numSpeculativeTokens } = config;
    this.recent = new RecentOutputs(
      config.suffixDecodingMaxCachedRequests,
      this.seed,
    );
    this.search = new SuffixSearch(
      {
        maxTreeDepth: config.suffixDecodingMaxTreeDepth,
        maxSpecFactor: config.suffixDecodingMaxSpecFactor,
        minTokenProb: config.suffixDecodingMinTokenProb,
      },
      numSpeculativeTokens,
    );
    this.best = new SuffixPath(numSpeculativeTokens);
  }

  propose(batch: DraftBatch): void {
    for (let i = 0; i < batch.count; i++) {
      const sequence = batch.sequence(i);
      const { best } = this;
      this.continue(sequence, batch.wanted[i] as number);
      for (let j = 0; j < best.length; j++)
        batch.push(i, best.tokens[j] as number);
      if (best.length > 0)
        batch.setGrade(i, Math.round((MAX_GRADE * best.score) / best.length));
    }
  }

  release(sequence: Sequence): void {
    this.own.delete(sequence);
    this.recent.add(
      sequence.request.cacheSalt,
      sequence.tokens,
      sequence.numPromptTokens,
      sequence.numTokens,
    );
  }

  reset(): void {
    // All that is held are tokens, and those are never lost.
  }

  close(): void {
    this.own.clear();
    this.recent.clear();
  }

  /** Sets `best`. */
  private continue(sequence: Sequence, wanted: number): void {
    const { best, recent } = this;
    const { tokens: context, numTokens: length } = sequence;
    best.clear();
    this.search.improve(best, {
      index: this.indexOf(sequence),
      context,
      length,
      group: OWN_GROUP,
      own: true,
      wanted: Math.min(wanted, best.tokens.length),
    });
    const group = recent.groupOf(sequence.request.cacheSalt);
    if (group === null) return;
    this.search.improve(best, {
      index: recent.index,
      context,
      length,
      group,
      own: false,
      wanted: Math.min(wanted, best.tokens.length),
    });
  }

  /** Holds all tokens of the sequence. */
  private indexOf(sequence: Sequence): ContextIndex {
    let index = this.own.get(sequence);
    if (!index) {
      index = new ContextIndex(this.seed, OWN_CAPACITY);
      this.own.set(sequence, index);
    }
    for (let at = index.head; at < sequence.numTokens; at++)
      index.append(sequence.tokens[at] as number, OWN_GROUP);
    return index;
  }
}
