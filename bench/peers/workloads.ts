import type { JobResult } from "./protocol.js";

export interface Workload {
  name: string;
  streams: number;
  inputLen: number;
  outputLen: number;
  /** A step reads the weights once for one token. */
  readsAllWeightsPerToken: boolean;
  /** Tokens per second. */
  rate: (result: JobResult) => number;
}

const DECODED = 128;

/** What people wait for: a prompt, an answer, and many answers at once. */
export const WORKLOADS: readonly Workload[] = [
  {
    name: "prefill-512",
    streams: 1,
    inputLen: 512,
    outputLen: 1,
    readsAllWeightsPerToken: false,
    rate: ({ firstToken }) => 512 / Math.max(...firstToken),
  },
  {
    name: "decode-128-at-512",
    streams: 1,
    inputLen: 512,
    outputLen: DECODED + 1,
    readsAllWeightsPerToken: true,
    rate: ({ firstToken, lastToken }) =>
      DECODED / (Math.max(...lastToken) - Math.max(...firstToken)),
  },
  together(8),
  together(16),
];

/** Output tokens per second over all: prompts of 128, answers of 64, all at once. */
function together(streams: number): Workload {
  return {
    name: `streams-${streams}`,
    streams,
    inputLen: 128,
    outputLen: 64,
    readsAllWeightsPerToken: false,
    rate: ({ lastToken }) => (streams * 64) / Math.max(...lastToken),
  };
}
