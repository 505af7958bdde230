/** State and running totals of the engine after a step; totals count from start. Names follow docs: metrics.md. */
export interface EngineStats {
  /** Requests in the running batch; waiting ones (by reason: capacity, deferred). */
  numRunning: number;
  numWaiting: number;
  numWaitingDeferred: number;
  /** 0..1: referenced blocks / all blocks. */
  kvCacheUsage: number;
  numFreeBlocks: number;
  numBlocks: number;
  numPreemptions: number;
  /** In tokens, counted once per request, at first admission. */
  prefixCacheQueries: number;
  prefixCacheHits: number;
  prefixCacheMisses: { cold: number; evicted: number; salt: number; tooShort: number };
  /** Tokens computed by this step (0: the message reports no step, only ends). */
  iterationTokens: number;
  numSteps: number;
  /** Seconds of this step by stage. */
  stepSeconds: { schedule: number; pack: number; launch: number; device: number; collect: number; update: number };
  /** Milliseconds, Request.arrivalTime's clock. */
  time: number;
}
