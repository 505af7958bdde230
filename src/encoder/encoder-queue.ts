import { OctavoError } from "../core/errors.js";
import { chooseBatch, type BatchLimits } from "./batching.js";
import type { Batch, EncoderInput } from "./messages.js";

/** Limits of what waits; 0: none. */
export interface QueueBounds {
  readonly maxNumQueuedReqs: number;
  readonly maxNumQueuedTokens: number;
}

/** Inputs that one request has given, and what has come of them. */
interface Job {
  readonly results: (Float32Array | null)[];
  numLeft: number;
  /** Inputs that a batch has had. */
  numTaken: number;
  /** Told of its end, or given up. */
  ended: boolean;
  readonly resolve: (results: Float32Array[]) => void;
  readonly reject: (error: OctavoError) => void;
}

interface Entry {
  readonly job: Job;
  readonly index: number;
  readonly input: EncoderInput;
}

/** A batch on its way, and whose inputs are in it. */
export interface Taken {
  readonly batch: Batch;
  readonly entries: readonly Entry[];
}

/** Inputs among which a batch is chosen: enough to find some of a length, few enough to sort each time. */
const WINDOW = 512;

/** Requests, computed in turns. Their inputs are computed in batches across requests. */
export class EncoderQueue {
  private readonly jobs = new Set<Job>();
  private waiting: Entry[] = [];
  private waitingTokens = 0;
  /** How the last batch was chosen. */
  private oldestFirst = false;

  constructor(private readonly bounds: QueueBounds) {}

  /** Requests that have not ended. */
  get numPending(): number {
    return this.jobs.size;
  }
  /** Inputs that are in no batch yet. */
  get numWaiting(): number {
    return this.waiting.length;
  }

  /**
   * @returns a vector for each input, in order
   * Rejects with `queue_full` (`param` says which bound), `request_aborted` after the signal, or what `fail` was told.
   */
  add(
    inputs: readonly EncoderInput[],
    signal?: AbortSignal,
  ): Promise<Float32Array[]> {
    const tokens = inputs.reduce((sum, { ids }) => sum + ids.length, 0);
    this.check(tokens);
    return new Promise((resolve, reject) => {
      const job: Job = {
        results: inputs.map(() => null),
        numLeft: inputs.length,
        numTaken: 0,
        ended: false,
        resolve,
        reject,
      };
      if (inputs.length === 0) return resolve([]);
      const stop = (): void => this.end(job, aborted());
      if (signal?.aborted === true) return reject(aborted());
      signal?.addEventListener("abort", stop, { once: true });
      this.jobs.add(job);
      inputs.forEach((input, index) =>
        this.waiting.push({ job, index, input }),
      );
      this.waitingTokens += tokens;
    });
  }

  /** Takes the next batch off the queue; null where nothing waits. */
  take(limits: BatchLimits): Taken | null {
    if (this.waiting.length === 0) return null;
    const places = this.window();
    const lengths = places.map(
      (place) => this.waiting[place]?.input.ids.length ?? 0,
    );
    const chosen = new Set(
      chooseBatch(lengths, limits).map((i) => places[i] ?? -1),
    );
    const entries: Entry[] = [];
    const rest: Entry[] = [];
    this.waiting.forEach((entry, place) =>
      (chosen.has(place) ? entries : rest).push(entry),
    );
    this.waiting = rest;
    for (const { job, input } of entries) {
      job.numTaken++;
      this.waitingTokens -= input.ids.length;
    }
    return { batch: pack(entries), entries };
  }

  /**
   * The places in `waiting` of the inputs among which a batch is chosen, first the one that it is chosen around: in turns
   * the oldest, and the oldest of the request that has had least. So nothing waits for ever, and one text does not wait
   * for the thousands of another request.
   */
  private window(): number[] {
    this.oldestFirst = !this.oldestFirst;
    let first = 0;
    if (!this.oldestFirst) {
      let least = Number.POSITIVE_INFINITY;
      this.waiting.forEach(({ job }, place) => {
        if (job.numTaken >= least) return;
        least = job.numTaken;
        first = place;
      });
    }
    const places = [first];
    for (let i = 0; i < this.waiting.length && places.length < WINDOW; i++)
      if (i !== first) places.push(i);
    return places;
  }

  /** @param vectors Float32 [inputs of the batch, width] */
  deliver({ entries }: Taken, vectors: Float32Array, width: number): void {
    entries.forEach(({ job, index }, i) => {
      if (job.ended) return;
      job.results[index] = vectors.subarray(i * width, (i + 1) * width);
      job.numLeft--;
      if (job.numLeft > 0) return;
      job.ended = true;
      this.jobs.delete(job);
      job.resolve(job.results.filter((result) => result !== null));
    });
  }

  /** Ends the requests that have an input in the batch. */
  fail({ entries }: Taken, error: OctavoError): void {
    for (const { job } of entries) this.end(job, error);
  }

  failAll(error: OctavoError): void {
    for (const job of [...this.jobs]) this.end(job, error);
  }

  private end(job: Job, error: OctavoError): void {
    if (job.ended) return;
    job.ended = true;
    this.jobs.delete(job);
    this.waiting = this.waiting.filter((entry) => {
      if (entry.job !== job) return true;
      this.waitingTokens -= entry.input.ids.length;
      return false;
    });
    job.reject(error);
  }

  private check(tokens: number): void {
    const { maxNumQueuedReqs, maxNumQueuedTokens } = this.bounds;
    let queued = 0;
    for (const job of this.jobs) if (job.numTaken === 0) queued++;
    if (maxNumQueuedReqs > 0 && queued >= maxNumQueuedReqs)
      throw new OctavoError(
        "queue_full",
        `${queued} requests are waiting for the embedding model, the limit is ${maxNumQueuedReqs}. Retry later.`,
        "max_num_queued_reqs",
      );
    // One above the bound by itself is taken when nothing else waits: refusing it would be for ever.
    if (
      maxNumQueuedTokens > 0 &&
      this.waitingTokens > 0 &&
      this.waitingTokens + tokens > maxNumQueuedTokens
    )
      throw new OctavoError(
        "queue_full",
        `${this.waitingTokens} tokens are waiting for the embedding model and the request has ${tokens}, the limit is ${maxNumQueuedTokens}. Retry later.`,
        "max_num_queued_tokens",
      );
  }
}

function pack(entries: readonly Entry[]): Batch {
  const lengths = Int32Array.from(entries, ({ input }) => input.ids.length);
  const total = lengths.reduce((sum, length) => sum + length, 0);
  const ids = new Int32Array(total);
  const typeIds = new Uint8Array(total);
  let at = 0;
  for (const { input } of entries) {
    ids.set(input.ids, at);
    if (input.typeIds !== null) typeIds.set(input.typeIds, at);
    at += input.ids.length;
  }
  return { ids, typeIds, lengths };
}

function aborted(): OctavoError {
  return new OctavoError("request_aborted", "The request was aborted.");
}
