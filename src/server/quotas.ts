import { NO_LIMITS, type KeyLimits } from "./key-limits.js";
import type { ApiKey } from "./keys-file.js";
import { RateLimitError, type Refusal } from "./rate-limit-error.js";
import { TokenBucket } from "./token-bucket.js";

/** Nobody knows when one of the requests under way ends: this is when asking again is no nuisance. */
const BUSY_RETRY_MS = 1000;

/** Units that are left of a limit. */
export interface Allowance {
  readonly limit: number;
  readonly remaining: number;
  /** Milliseconds until all of it is left again. */
  readonly reset: number;
}

/**
 * What one client has used of its limits. A request is one, whatever it asks for. Tokens are paid when they are known: the
 * prompt's when the engine takes it, the others one by one, so the last requests of a minute may run up a debt that later
 * ones wait for.
 */
export class ClientQuota {
  private requests: TokenBucket | null = null;
  private tokens: TokenBucket | null = null;
  private numRunning = 0;
  private current: KeyLimits = NO_LIMITS;

  /** @param clock milliseconds, never going back */
  constructor(
    readonly name: string,
    limits: KeyLimits,
    private readonly clock: () => number,
  ) {
    this.limits = limits;
  }

  get limits(): KeyLimits {
    return this.current;
  }

  /** What was used stays used. */
  set limits(limits: KeyLimits) {
    const time = this.clock();
    const { rpm, tpm } = limits;
    this.requests = resized(this.requests, rpm, time);
    this.tokens = resized(this.tokens, tpm, time);
    this.current = limits;
  }

  /**
   * Takes a request in until the function that it returns is called, which may be more than once. Errors: RateLimitError;
   * the request counts as none then.
   */
  begin(): () => void {
    const { concurrency = Infinity } = this.current;
    this.take(true, this.numRunning < concurrency);
    this.numRunning++;
    let running = true;
    return () => {
      if (running) this.numRunning--;
      running = false;
    };
  }

  /** Takes in a request that costs no tokens and hardly any time. Errors: RateLimitError. */
  count(): void {
    this.take(false, true);
  }

  /** @param amount of tokens, negative to give them back */
  spend(amount: number): void {
    this.tokens?.spend(amount, this.clock());
  }

  /** What is left; null where there is no limit. */
  allowances(): Record<"requests" | "tokens", Allowance | null> {
    const { rpm, tpm } = this.current;
    const time = this.clock();
    return {
      requests: allowanceOf(this.requests, rpm, time),
      tokens: allowanceOf(this.tokens, tpm, time),
    };
  }

  private take(costsTokens: boolean, hasPlace: boolean): void {
    const time = this.clock();
    const { requests, tokens } = this;
    const waits: [Refusal, number][] = [
      ["requests", requests?.untilOne(time) ?? 0],
      ["tokens", costsTokens ? (tokens?.untilOne(time) ?? 0) : 0],
      ["concurrency", hasPlace ? 0 : BUSY_RETRY_MS],
    ];
    const [longest] = waits.sort(([, a], [, b]) => b - a);
    if (longest !== undefined && longest[1] > 0) throw this.refusal(...longest);
    requests?.spend(1, time);
  }

  private refusal(reason: Refusal, waitMs: number): RateLimitError {
    const { rpm, tpm, concurrency } = this.current;
    const limit = {
      requests: `${rpm} requests a minute`,
      tokens: `${tpm} tokens a minute`,
      concurrency: `${concurrency} requests at once`,
    }[reason];
    return new RateLimitError(
      `Rate limit reached for ${this.name}: ${limit}.`,
      reason,
      Math.ceil(waitMs / 1000),
    );
  }
}

function resized(
  bucket: TokenBucket | null,
  limit: number | undefined,
  time: number,
): TokenBucket | null {
  if (limit === undefined) return null;
  if (bucket === null) return new TokenBucket(limit, time);
  bucket.resize(limit, time);
  return bucket;
}

function allowanceOf(
  bucket: TokenBucket | null,
  limit: number | undefined,
  time: number,
): Allowance | null {
  if (bucket === null || limit === undefined) return null;
  const remaining = bucket.remaining(time);
  return { limit, remaining, reset: bucket.untilFull(time) };
}

/** The quotas of all clients of a keys file, which may change: those who stay keep what they have used. */
export class Quotas {
  private byName = new Map<string, ClientQuota>();
  private known: readonly ApiKey[] | null = null;

  constructor(
    private readonly keys: () => readonly ApiKey[],
    private readonly clock: () => number,
  ) {}

  /** Undefined for a key of no client in the file. */
  of(name: string): ClientQuota | undefined {
    const keys = this.keys();
    if (keys !== this.known) this.follow(keys);
    return this.byName.get(name);
  }

  /** A client without limits is followed too: what it has under way counts when it gets some. */
  private follow(keys: readonly ApiKey[]): void {
    const before = this.byName;
    this.byName = new Map();
    this.known = keys;
    for (const { name, limits } of keys) {
      if (this.byName.has(name)) continue;
      const quota = before.get(name);
      if (quota !== undefined) quota.limits = limits;
      this.byName.set(name, quota ?? new ClientQuota(name, limits, this.clock));
    }
  }
}
