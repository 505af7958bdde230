import { OctavoError } from "../core/errors.js";
import type { EngineStats } from "../engine/stats.js";
import {
  createMeters,
  type MeterOptions,
  type Meters,
  type StartupSeconds,
} from "./meters.js";

/** Names that vLLM has retired and older dashboards still ask for, and what they are called now. */
const RETIRED: readonly (readonly [retired: string, current: string])[] = [
  ["vllm:gpu_cache_usage_perc", "vllm:kv_cache_usage_perc"],
  ["vllm:gpu_prefix_cache_queries_total", "vllm:prefix_cache_queries_total"],
  ["vllm:gpu_prefix_cache_hits_total", "vllm:prefix_cache_hits_total"],
  ["vllm:time_per_output_token_seconds", "vllm:inter_token_latency_seconds"],
];

/** prom-client behind the events that count: steps, refusals, answers. What requests count is in RequestTimeline. */
export class ServerMetrics {
  readonly meters: Meters;
  private startupSeconds: StartupSeconds | null = null;

  constructor(
    options: Omit<MeterOptions, "startup">,
    /** Also under the names that vLLM has retired. */
    private readonly compat: boolean,
  ) {
    this.meters = createMeters({
      ...options,
      startup: () => this.startupSeconds,
    });
    options.engine?.client.onStep((stats) => this.step(stats));
  }

  /** The exposition, text format 0.0.4. Whole-number bounds print as vLLM's do: le="1.0". */
  async exposition(): Promise<string> {
    const { registry } = this.meters;
    let text = await registry.metrics();
    if (this.compat)
      for (const [retired, current] of RETIRED) {
        if (registry.getSingleMetric(current) === undefined) continue;
        const metric = await registry.getSingleMetricAsString(current);
        text += `\n${metric.replaceAll(current, retired)}\n`;
      }
    return text.replace(/le="(\d+)"/g, 'le="$1.0"');
  }

  /** The server is ready. */
  started(seconds: StartupSeconds): void {
    this.startupSeconds = seconds;
  }

  /** Counts admission refusals; other errors are none of these. */
  refused(error: unknown): void {
    if (!(error instanceof OctavoError) || error.code !== "queue_full") return;
    const { max_num_queued_reqs, max_num_queued_tokens } =
      this.meters.rejections;
    if (error.param === "max_num_queued_tokens") max_num_queued_tokens.inc();
    else max_num_queued_reqs.inc();
  }

  http(method: string, status: number, handler: string, seconds: number): void {
    const labels = { method, status: `${Math.floor(status / 100)}xx`, handler };
    this.meters.httpRequests.inc(labels);
    this.meters.httpDuration.observe(labels, seconds);
  }

  private step(stats: EngineStats): void {
    // A message without computed tokens only reports ends.
    if (stats.iterationTokens === 0) return;
    this.meters.iterationTokens.observe(stats.iterationTokens);
    const { stepSeconds } = this.meters;
    stepSeconds.draft.observe(stats.stepSeconds.draft);
    stepSeconds.schedule.observe(stats.stepSeconds.schedule);
    stepSeconds.pack.observe(stats.stepSeconds.pack);
    stepSeconds.launch.observe(stats.stepSeconds.launch);
    stepSeconds.device.observe(stats.stepSeconds.device);
    stepSeconds.collect.observe(stats.stepSeconds.collect);
    stepSeconds.update.observe(stats.stepSeconds.update);
  }
}
