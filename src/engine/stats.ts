import type { SpecStats } from "../spec/spec-stats.js";

/** State and running totals of the engine after a step; totals count from start. Names follow docs: metrics.md. */
export interface EngineStats {
  /** Requests in the running batch; waiting ones (by reason: capacity, deferred). */
  numRunning: number;
  numWaiting: number;
  numWaitingDeferred: number;
  /** 0..1: referenced blocks / all blocks. */
  kvCacheUsage: number;
  numFreeBlocks: number;
  /** Of the free ones: blocks that the prefix cache can still give. */
  numCachedFreeBlocks: number;
  numBlocks: number;
  numPreemptions: number;
  /** In tokens, counted once per request, at first admission. */
  prefixCacheQueries: number;
  prefixCacheHits: number;
  prefixCacheMisses: {
    cold: number;
    evicted: number;
    salt: number;
    tooShort: number;
  };
  runner: RunnerHealth;
  /** Null where nothing is speculated. */
  speculation: SpecStats | null;
  /** Tokens computed by this step (0: the message reports no step, only ends). */
  iterationTokens: number;
  numSteps: number;
  /** Seconds of this step by stage. */
  stepSeconds: {
    /** Of which: making drafts. */
    draft: number;
    schedule: number;
    pack: number;
    launch: number;
    device: number;
    collect: number;
    update: number;
  };
  /** Milliseconds, Request.arrivalTime's clock. */
  time: number;
}

/** Whether the device works, and how often it did not. */
export interface RunnerHealth {
  /** Lost and not yet there again: nothing is computed. */
  restarting: boolean;
  /** Device errors; runners that took the place of a lost one. */
  numFailures: number;
  numRestarts: number;
  /** Requests that were computed anew from their tokens, once for each restart. */
  numReplayedRequests: number;
  /** The last device error. */
  lastError: string | null;
}

/** Before the first step. */
export function emptyStats(numBlocks: number): EngineStats {
  return {
    numRunning: 0,
    numWaiting: 0,
    numWaitingDeferred: 0,
    kvCacheUsage: 0,
    numFreeBlocks: numBlocks,
    numCachedFreeBlocks: 0,
    numBlocks,
    numPreemptions: 0,
    prefixCacheQueries: 0,
    prefixCacheHits: 0,
    prefixCacheMisses: { cold: 0, evicted: 0, salt: 0, tooShort: 0 },
    runner: {
      restarting: false,
      numFailures: 0,
      numRestarts: 0,
      numReplayedRequests: 0,
      lastError: null,
    },
    speculation: null,
    iterationTokens: 0,
    numSteps: 0,
    stepSeconds: {
      draft: 0,
      schedule: 0,
      pack: 0,
      launch: 0,
      device: 0,
      collect: 0,
      update: 0,
    },
    time: 0,
  };
}
