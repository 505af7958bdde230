import { Exposition, type Histogram } from "./exposition.js";

/** What /metrics said at one moment. Totals count from the server's start. */
export interface Snapshot {
  /** Seconds, of one clock. */
  readonly time: number;
  readonly running: number;
  readonly waiting: number;
  readonly preemptions: number;
  readonly promptTokens: number;
  readonly generationTokens: number;
  readonly prefixQueries: number;
  readonly prefixHits: number;
  readonly steps: number;
  readonly stepTokens: number;
  /** Steps by their tokens. */
  readonly stepSizes: Histogram;
  /** Seconds of all steps, by stage, in the order in which a step has them. */
  readonly stageSeconds: ReadonlyMap<string, number>;
  readonly ttft: Histogram;
  readonly itl: Histogram;
  readonly blocks: KvBlocks;
  /** Null where nothing is speculated. */
  readonly speculation: Speculation | null;
}

export interface KvBlocks {
  readonly used: number;
  readonly cached: number;
  readonly free: number;
  /** Tokens of a block; its numbers' type. */
  readonly size: number;
  readonly type: string;
}

export interface Speculation {
  readonly drafts: number;
  readonly draftTokens: number;
  readonly acceptedTokens: number;
  /** Of late; 1: no draft was right. */
  readonly acceptanceLength: number;
}

/** @param time when it was read, in seconds */
export function readSnapshot(text: string, time: number): Snapshot {
  const read = new Exposition(text);
  const blocks = (state: string): number =>
    read.sum("octavo_kv_blocks", `state="${state}"`);
  const spec = "vllm:spec_decode_num_";
  return {
    time,
    running: read.sum("vllm:num_requests_running"),
    waiting: read.sum("vllm:num_requests_waiting"),
    preemptions: read.sum("vllm:num_preemptions_total"),
    promptTokens: read.sum("vllm:prompt_tokens_total"),
    generationTokens: read.sum("vllm:generation_tokens_total"),
    prefixQueries: read.sum("vllm:prefix_cache_queries_total"),
    prefixHits: read.sum("vllm:prefix_cache_hits_total"),
    steps: read.sum("vllm:iteration_tokens_total_count"),
    stepTokens: read.sum("vllm:iteration_tokens_total_sum"),
    stepSizes: read.histogram("vllm:iteration_tokens_total"),
    stageSeconds: read.byLabel("octavo_step_seconds_sum", "stage"),
    ttft: read.histogram("vllm:time_to_first_token_seconds"),
    itl: read.histogram("vllm:inter_token_latency_seconds"),
    blocks: {
      used: blocks("used"),
      cached: blocks("cached"),
      free: blocks("free"),
      size: Number(read.label("vllm:cache_config_info", "block_size")),
      type: read.label("vllm:cache_config_info", "cache_dtype"),
    },
    speculation: read.has(`${spec}drafts_total`)
      ? {
          drafts: read.sum(`${spec}drafts_total`),
          draftTokens: read.sum(`${spec}draft_tokens_total`),
          acceptedTokens: read.sum(`${spec}accepted_tokens_total`),
          acceptanceLength: read.sum("octavo_draft_acceptance_length"),
        }
      : null,
  };
}
