import { ContextIndex } from "./token-contexts.js";

/** Tokens of all remembered outputs together, with a separator each: at most 80 MiB. */
const MAX_TOKENS = 2 ** 21;

interface Tenant {
  /** Of the index; never used again for another salt. */
  group: number;
  numOutputs: number;
}

/**
 * The latest outputs, first in, first out: at most so many, and so many tokens. Those of one cache salt are found by
 * requests with the same salt alone. A draft never changes an output, but how fast it comes would tell what others got.
 */
export class RecentOutputs {
  readonly index: ContextIndex;
  private readonly tenants = new Map<string, Tenant>();
  /** Ring of what is held, oldest first. */
  private outputs: { salt: string; length: number }[] = [];
  private first = 0;
  private lastGroup = 0;

  constructor(
    private readonly maxOutputs: number,
    seed: number,
    private readonly maxTokens = MAX_TOKENS,
  ) {
    this.index = new ContextIndex(seed, maxTokens);
  }

  get numOutputs(): number {
    return this.outputs.length - this.first;
  }

  /** Names the outputs of a salt in the index; null: there are none. */
  groupOf(salt: string): number | null {
    return this.tenants.get(salt)?.group ?? null;
  }

  /** Remembers tokens[start, end), of one too long its end, and forgets the oldest for it. */
  add(salt: string, tokens: Int32Array, start: number, end: number): void {
    const from = Math.max(start, end - (this.maxTokens - 1));
    const length = end - from + 1;
    if (this.maxOutputs === 0 || from >= end) return;
    while (
      this.numOutputs === this.maxOutputs ||
      this.index.size + length > this.maxTokens
    )
      this.dropOldest();
    const group = this.join(salt);
    for (let at = from; at < end; at++)
      this.index.append(tokens[at] as number, group);
    this.index.endText();
    this.outputs.push({ salt, length });
  }

  clear(): void {
    while (this.numOutputs > 0) this.dropOldest();
  }

  private join(salt: string): number {
    let tenant = this.tenants.get(salt);
    if (!tenant) {
      tenant = { group: ++this.lastGroup, numOutputs: 0 };
      this.tenants.set(salt, tenant);
    }
    tenant.numOutputs++;
    return tenant.group;
  }

  private dropOldest(): void {
    const oldest = this.outputs[this.first++];
    if (!oldest) return;
    this.index.drop(oldest.length);
    const tenant = this.tenants.get(oldest.salt);
    if (tenant && --tenant.numOutputs === 0) this.tenants.delete(oldest.salt);
    // Amortised: half of the list is moved once in as many calls.
    if (this.first * 2 < this.outputs.length) return;
    this.outputs = this.outputs.slice(this.first);
    this.first = 0;
  }
}
