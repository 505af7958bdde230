import { ProgressBar } from "../../src/cli/format.js";
import { now, type EngineConfig } from "../../src/core/config.js";
import { OctavoError } from "../../src/core/errors.js";
import { EventKind, readEvents } from "../../src/core/events.js";
import { FINISH_REASON_NAMES } from "../../src/core/request.js";
import {
  NEUTRAL_SAMPLING,
  type SamplingParams,
} from "../../src/core/sampling-params.js";
import type { SpecStats } from "../../src/spec/spec-stats.js";
import type { RunnerMemory } from "../../src/runner/addon.js";
import type { EngineInfo, FinishedChoice } from "../../src/engine/messages.js";
import {
  startEngine,
  type StartedEngine,
} from "../../src/engine/start-engine.js";
import { machineLines, measureMachine, type Machine } from "../machine.js";

export interface BenchRequest {
  promptTokenIds: Int32Array;
  outputLen: number;
  /** "" where none is given. */
  cacheSalt?: string;
  /** What is to differ from the run's settings. */
  params?: Partial<SamplingParams>;
}

/** Seconds after the start of the run. */
export interface RequestTiming {
  promptLen: number;
  outputLen: number;
  firstToken: number;
  lastToken: number;
}

export interface Run {
  /** Seconds from adding the first request to the end of the last. */
  seconds: number;
  steps: number;
  /** In the order of the requests. */
  timings: RequestTiming[];
}

export interface RunOptions {
  temperature: number;
  /** Generate the full output length whatever the model says. */
  ignoreEos: boolean;
  seed: number;
  onFinished?: (done: number, total: number) => void;
  /** Every generated token, with the index of its request. */
  onToken?: (index: number, token: number) => void;
  /** After the collect of a step: its tokens, and what the device computed it in by its own clock (0: not measured). */
  onStep?: (step: Step) => void;
}

export interface Step {
  tokens: number;
  computeSeconds: number;
  /** Of the whole step on this thread; of which making drafts. */
  seconds: number;
  draftSeconds: number;
}

/** Measures the machine, loads a model on it with a progress bar, and prints what heads a bench's output. */
export async function openEngine(
  config: EngineConfig,
  seed: number,
  print: (line: string) => void,
): Promise<{ machine: Machine; engine: InProcessEngine }> {
  const machine = measureMachine(config.device, config.threads);
  const loading = new ProgressBar("Loading weights");
  const engine = await InProcessEngine.start(config, (done, total) =>
    loading.update(done, total),
  );
  const { architecture, quantization } = engine.info;
  print(`Model: ${config.model} (${architecture}, ${quantization})`);
  machineLines(machine, seed).forEach(print);
  return { machine, engine };
}

/** The engine without server, thread or text: what a request costs below HTTP. */
export class InProcessEngine {
  private lastHandle = 0;
  /** Totals since the start, as of the last step; null where nothing is speculated. */
  speculation: SpecStats | null = null;

  /** What the runner took. */
  get memory(): RunnerMemory {
    return this.started.runner.memory;
  }

  private constructor(
    private readonly started: StartedEngine,
    readonly info: EngineInfo,
    /** Seconds from reading config.json to an engine that takes requests. */
    readonly startSeconds: number,
  ) {}

  /** Errors: as startEngine. */
  static async start(
    config: EngineConfig,
    onProgress: (done: number, total: number) => void,
  ): Promise<InProcessEngine> {
    let info: EngineInfo | undefined;
    const before = performance.now();
    const started = await startEngine(config, (message) => {
      if (message.type === "ready") info = message.info;
      else if (message.type === "notice")
        process.stderr.write(`${message.text}\n`);
      else if (message.type === "progress")
        onProgress(message.done, message.total);
    });
    if (!info)
      throw new OctavoError("internal_error", "the engine was never ready");
    const seconds = (performance.now() - before) / 1000;
    return new InProcessEngine(started, info, seconds);
  }

  /**
   * Adds all requests and steps until each has ended. Errors: `invalid_config` for requests that are too long, before
   * anything is computed, and whatever ends a step.
   */
  run(requests: readonly BenchRequest[], options: RunOptions): Run {
    const { engine } = this.started;
    const { onToken } = options;
    this.checkLengths(requests);
    const first = this.lastHandle + 1;
    const start = now();
    const timings: (RequestTiming | undefined)[] = requests.map(
      () => undefined,
    );
    for (const request of requests) this.add(request, options, start);
    let done = 0;
    let steps = 0;
    while (!engine.idle) {
      const began = performance.now();
      const result = engine.step();
      const seconds = (performance.now() - began) / 1000;
      if (!result) continue;
      if (onToken)
        readEvents(result.events.toMessage(), ({ handle, kind, token }) => {
          if (kind === EventKind.token) onToken(handle - first, token);
        });
      const tokens = result.stats.iterationTokens;
      if (tokens > 0) {
        steps++;
        const computeSeconds = this.started.runner.seconds?.compute ?? 0;
        const draftSeconds = result.stats.stepSeconds.draft;
        options.onStep?.({ tokens, computeSeconds, seconds, draftSeconds });
      }
      this.speculation = structuredClone(result.stats.speculation);
      for (const finished of result.finished) {
        const index = finished.handle - first;
        timings[index] = timingOf(requests[index], finished, start);
        options.onFinished?.(++done, requests.length);
      }
    }
    return {
      seconds: (now() - start) / 1000,
      steps,
      timings: timings.filter((timing) => timing !== undefined),
    };
  }

  close(): void {
    this.started.close();
  }

  /** Refused as a whole: a load with answers cut short would be another load. */
  private checkLengths(requests: readonly BenchRequest[]): void {
    const { maxModelLen } = this.info;
    const tooLong = requests.filter(
      ({ promptTokenIds, outputLen }) =>
        promptTokenIds.length + outputLen > maxModelLen,
    ).length;
    if (tooLong > 0)
      throw new OctavoError(
        "invalid_config",
        `${tooLong} of ${requests.length} requests are longer than the model's ${maxModelLen} tokens, prompt and output together: choose shorter ones (--input-len, --output-len, --length-scale) or another --max-model-len`,
        "max-model-len",
      );
  }

  private add(
    { promptTokenIds, outputLen, cacheSalt, params }: BenchRequest,
    { temperature, ignoreEos, seed }: RunOptions,
    arrivalTime: number,
  ): void {
    const handle = ++this.lastHandle;
    this.started.engine.add({
      id: String(handle),
      handle,
      promptTokenIds,
      n: 1,
      priority: 0,
      cacheSalt: cacheSalt ?? "",
      arrivalTime,
      bypassPrefixCache: false,
      params: {
        ...NEUTRAL_SAMPLING,
        temperature,
        seedLo: seed | 0,
        seedHi: handle,
        maxTokens: outputLen,
        ignoreEos,
        stopTokenIds: ignoreEos ? [] : this.info.eosTokenIds,
        eosTokenIds: this.info.eosTokenIds,
        ...params,
      },
    });
  }
}

function timingOf(
  request: BenchRequest | undefined,
  finished: FinishedChoice,
  start: number,
): RequestTiming {
  const reason = FINISH_REASON_NAMES[finished.finish];
  if (!request || (reason !== "length" && reason !== "stop"))
    throw new OctavoError(
      "internal_error",
      `request ${finished.handle} ended with ${reason || "nothing"}`,
    );
  return {
    promptLen: request.promptTokenIds.length,
    outputLen: finished.numOutputTokens,
    firstToken: (finished.firstTokenTime - start) / 1000,
    lastToken: (finished.lastTokenTime - start) / 1000,
  };
}
