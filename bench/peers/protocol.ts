/** What the bench and its engines, each in a process of its own, tell each other over Node's IPC. */

/** Requests that start together. */
export interface Job {
  prompts: number[][];
  /** Tokens to generate for each, greedily, whatever they are. */
  outputLen: number;
}

export type PeerMessage =
  | { type: "ready"; name: string }
  | ({ type: "result" } & JobResult)
  | { type: "failed"; message: string };

/** Seconds after the start of the job, by prompt. */
export interface JobResult {
  firstToken: number[];
  lastToken: number[];
  tokens: number[][];
  /** Of the process, after the job. */
  residentBytes: number;
}

export interface PeerSettings {
  /** Of the checkpoint in the engine's own format. */
  model: string;
  threads: number;
  maxStreams: number;
  /** Prompt and output of one stream, at most. */
  maxTokens: number;
  /** Further flags of the engine, as JSON holds them. */
  options: Record<string, unknown>;
}

/** Answers jobs until the bench goes away. */
export function serveJobs(
  name: string,
  run: (job: Job) => Promise<Omit<JobResult, "residentBytes">>,
): void {
  const send = (message: PeerMessage): void => void process.send?.(message);
  process.on("disconnect", () => process.exit(0));
  process.on("message", (job: Job) => {
    run(job).then(
      (result) =>
        send({
          type: "result",
          ...result,
          residentBytes: process.memoryUsage.rss(),
        }),
      (error: unknown) => send({ type: "failed", message: String(error) }),
    );
  });
  send({ type: "ready", name });
}

/** The settings that the bench started this process with. */
export function peerSettings(): PeerSettings {
  return JSON.parse(process.argv[2] ?? "") as PeerSettings;
}

/** Tells the bench why an engine did not start. */
export function failToStart(error: unknown): void {
  const message = error instanceof Error ? error.message : String(error);
  process.send?.({ type: "failed", message } satisfies PeerMessage);
  process.disconnect();
}
