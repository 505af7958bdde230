import { ScheduledBatch } from "../../src/core/batch.js";
import { TokenEvents } from "../../src/core/events.js";
import type { Request } from "../../src/core/request.js";
import { MAX_LOGPROBS } from "../../src/core/sampling-params.js";
import { Scheduler } from "../../src/scheduler/scheduler.js";
import type {
  SchedulerConfig,
  SchedulerReport,
} from "../../src/scheduler/scheduler-config.js";
import { request } from "../engine/simulation.js";
import type { RequestSpec } from "../engine/simulation.js";

const CONFIG: SchedulerConfig = {
  blockSize: 16,
  maxNumSeqs: 4,
  maxNumBatchedTokens: 64,
  longPrefillTokenThreshold: 0,
  enableChunkedPrefill: true,
  enablePrefixCaching: true,
  schedulingPolicy: "fcfs",
  numBlocks: 32,
  maxModelLen: 256,
  maxNumSamples: 4,
  slidingWindow: null,
};

/** A scheduler whose steps sample token 5 everywhere, in the plain loop. */
export class Bench {
  readonly report: SchedulerReport = {
    events: new TokenEvents(),
    finished: [],
    finishReasons: [],
    admitted: [],
    preempted: [],
  };
  readonly scheduler: Scheduler;
  readonly batch = new ScheduledBatch(8);
  readonly rows = {
    sampledIds: new Int32Array(64).fill(5),
    logprob: new Float32Array(64),
    rank: new Int32Array(64),
    targetLogprob: new Float32Array(64),
    targetRank: new Int32Array(64),
    topIds: new Int32Array(64 * MAX_LOGPROBS),
    topLogprobs: new Float32Array(64 * MAX_LOGPROBS),
  };

  constructor(config: Partial<SchedulerConfig> = {}) {
    this.scheduler = new Scheduler({ ...CONFIG, ...config }, this.report);
  }

  add(spec: RequestSpec): Request {
    const made = request(spec);
    this.scheduler.add(made);
    return made;
  }

  /** What the next step computes: [handle, start, count, samples] of each sequence. */
  schedule(withDrafts = false): [number, number, number, number][] {
    this.scheduler.schedule(this.batch, withDrafts);
    return Array.from({ length: this.batch.numSeqs }, (_, i) => [
      this.batch.sequence(i).request.handle,
      this.batch.start[i] as number,
      this.batch.count[i] as number,
      this.batch.samplesOf[i] as number,
    ]);
  }

  step(): [number, number, number, number][] {
    const scheduled = this.schedule();
    this.scheduler.update(this.batch, this.rows);
    this.scheduler.checkIntegrity();
    return scheduled;
  }
}
