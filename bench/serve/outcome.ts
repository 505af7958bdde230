/** One request to send. */
export interface Sample {
  /** Text, or token ids where the length has to be exact. */
  prompt: string | Int32Array;
  /** Tokens of the prompt as the bench counts them; null where only the server knows. */
  promptLen: number | null;
  /** Most tokens to generate. */
  outputLen: number;
  /** Seconds after the start, where the data set says when (a trace). */
  arrival?: number;
}

/** What became of one request. Times in seconds. */
export interface Outcome {
  /** Null when it went well; otherwise why not. */
  error: string | null;
  promptLen: number;
  outputLen: number;
  /** When it was sent, after the start of the run. */
  startTime: number;
  /** First chunk - sent. 0 where no chunk came. */
  ttft: number;
  /** Gaps between chunks, [chunks - 1]. */
  itls: number[];
  /** Last chunk - sent = ttft + the sum of itls. */
  latency: number;
  text: string;
  /** False: the server sent no usage, outputLen counts chunks. */
  usageReported: boolean;
}
