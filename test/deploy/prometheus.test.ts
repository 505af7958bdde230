import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import path from "node:path";
import { describe, expect, it } from "vitest";
import { parse } from "yaml";
import { pagedEngine } from "../server/known-engine.js";
import { bytes, serve, type Json, type TestServer } from "../server/support.js";
import {
  hasPrometheus,
  startPrometheus,
  type PrometheusProcess,
} from "./prometheus-process.js";

const root = path.resolve(import.meta.dirname, "../..");
const deployed = (file: string): string => path.join(root, "deploy", file);
const read = (file: string): string => readFileSync(deployed(file), "utf8");
const RULES = deployed("prometheus/rules.yml");
const ALERTS = deployed("prometheus/alerts.yml");

/** The names that the panels of vLLM's three example dashboards ask for. */
const VLLM_DASHBOARDS = {
  gauges: [
    "vllm:num_requests_running",
    "vllm:num_requests_waiting",
    "vllm:kv_cache_usage_perc",
  ],
  counters: [
    "vllm:prompt_tokens_total",
    "vllm:generation_tokens_total",
    "vllm:request_success_total",
    "vllm:iteration_tokens_total_count",
    "vllm:e2e_request_latency_seconds_sum",
    "vllm:e2e_request_latency_seconds_count",
    "vllm:time_to_first_token_seconds_sum",
    "vllm:time_to_first_token_seconds_count",
    "vllm:inter_token_latency_seconds_sum",
    "vllm:inter_token_latency_seconds_count",
    "vllm:request_queue_time_seconds_sum",
    "vllm:request_prefill_time_seconds_sum",
    "vllm:request_decode_time_seconds_sum",
    "vllm:request_max_num_generation_tokens_sum",
    // Before it was called inter-token latency (--metrics-compat).
    "vllm:time_per_output_token_seconds_sum",
  ],
  buckets: [
    "vllm:e2e_request_latency_seconds_bucket",
    "vllm:time_to_first_token_seconds_bucket",
    "vllm:inter_token_latency_seconds_bucket",
    "vllm:time_per_output_token_seconds_bucket",
    "vllm:request_prompt_tokens_bucket",
    "vllm:request_generation_tokens_bucket",
  ],
};

/** Has data only where speculation is on. */
const needsSpeculation = (expression: string): boolean =>
  /spec_decode|draft_acceptance/.test(expression);

/** Every expression of the dashboard, with values for Grafana's variables. */
function dashboardExpressions(): string[] {
  const { panels } = JSON.parse(read("grafana/octavo.json"));
  return panels
    .flatMap((panel: Json) => panel.targets ?? [])
    .map(({ expr }: Json) =>
      expr
        .replaceAll("$__rate_interval", "30s")
        .replaceAll("$model", ".*")
        .replaceAll("${datasource}", ""),
    );
}

function rulesOf(file: string): Json[] {
  return parse(readFileSync(file, "utf8")).groups.flatMap(
    (group: Json) => group.rules,
  );
}

/** The series that an expression of an alert reads. */
function seriesOf(expression: string): string[] {
  return [
    ...expression.matchAll(/\b(?:(?:model|job|vllm):|octavo_)[\w:]+/g),
  ].map(([name]) => name);
}

function vllmExpressions(): string[] {
  const { gauges, counters, buckets } = VLLM_DASHBOARDS;
  const select = (name: string): string => `${name}{model_name="tiny"}`;
  return [
    ...gauges.map(select),
    ...counters.map((name) => `rate(${select(name)}[30s])`),
    ...counters.map((name) => `sum(increase(${select(name)}[30s]))`),
    ...buckets.flatMap((name) => [
      `histogram_quantile(0.99, sum by(le) (rate(${select(name)}[30s])))`,
      `sum by(le) (increase(${select(name)}[30s]))`,
    ]),
  ];
}

/** Requests of every kind, so that each figure moves: repeated and new prompts, evictions, refusals, preemptions. */
async function makeLoad({ post }: TestServer, round: number): Promise<void> {
  const ask = (text: string, max_tokens: number) =>
    post("/v1/completions", {
      prompt: bytes(text),
      max_tokens,
      ignore_eos: true,
    });
  const name = `round ${round}: `;
  await ask(`again: ${"a".repeat(40)}`, 5);
  await Promise.all([
    ask(name + "l".repeat(24), 50),
    ask(name + "r".repeat(24), 50),
    ...Array.from({ length: 4 }, (_, i) => ask(`${name}${i}`, 4)),
  ]);
  await post("/v1/completions", { prompt: 1 });
}

async function poll(
  prometheus: PrometheusProcess,
  expressions: readonly string[],
  server: TestServer,
): Promise<string[]> {
  const deadline = Date.now() + 30_000;
  let missing = [...expressions];
  for (let round = 0; missing.length > 0 && Date.now() < deadline; round++) {
    await makeLoad(server, round);
    await new Promise((resolve) => setTimeout(resolve, 200));
    const found = await Promise.all(
      missing.map((one) => prometheus.query(one)),
    );
    missing = missing.filter(
      (_, i) => !found[i]?.some(({ value }) => !Number.isNaN(value)),
    );
  }
  return missing;
}

describe.skipIf(!hasPrometheus)(
  "a real Prometheus (skipped where the package prometheus is not installed)",
  () => {
    it("every expression of ours, and every name of vLLM's dashboards, returns data", async () => {
      const sizes = { numBlocks: 8, maxModelLen: 96 };
      const server = await serve(pagedEngine({ ...sizes, maxNumSeqs: 4 }), {
        info: sizes,
        bounds: { maxNumQueuedReqs: 4, maxNumQueuedTokens: 0 },
        metricsCompat: true,
      });
      server.app.started({
        process: 0.1,
        find: 0.1,
        plan: 0.1,
        weights: 0.1,
        server: 0.1,
      });
      const url = await server.app.listen({ port: 0, host: "127.0.0.1" });
      const prometheus = await startPrometheus(new URL(url).host, [
        RULES,
        ALERTS,
      ]);
      try {
        const expressions = [
          ...dashboardExpressions(),
          ...rulesOf(RULES).flatMap(({ record, expr }) => [record, expr]),
          ...rulesOf(ALERTS).flatMap(({ expr }) => seriesOf(expr)),
          'up{job="octavo"}',
          ...vllmExpressions(),
        ];
        expect(expressions.length).toBeGreaterThan(120);
        const testable = expressions.filter((one) => !needsSpeculation(one));
        expect(await poll(prometheus, testable, server)).toEqual([]);
        // The others are right PromQL at least: a bad expression throws.
        for (const one of expressions.filter(needsSpeculation))
          await prometheus.query(one);
      } finally {
        await prometheus.stop();
      }
    });

    it("promtool finds no fault, and each alert fires on what it is for and on nothing else", () => {
      const promtool = (...args: string[]): void => {
        const { status, stdout, stderr } = spawnSync("promtool", args, {
          encoding: "utf8",
        });
        expect(status, stdout + stderr).toBe(0);
      };
      promtool("check", "rules", RULES, ALERTS);
      promtool("check", "config", deployed("prometheus/prometheus.yml"));
      promtool(
        "test",
        "rules",
        path.join(import.meta.dirname, "alerts.test.yml"),
      );
    });
  },
);

describe("the dashboard", () => {
  it("has panels with numbers of their own that do not lie on each other", () => {
    const { panels } = JSON.parse(read("grafana/octavo.json"));
    const ids = panels.map((panel: Json) => panel.id);
    expect(new Set(ids).size).toBe(ids.length);
    const cells = new Set<string>();
    for (const { gridPos, title } of panels)
      for (let x = gridPos.x; x < gridPos.x + gridPos.w; x++)
        for (let y = gridPos.y; y < gridPos.y + gridPos.h; y++) {
          expect(x, title).toBeLessThan(24);
          expect(cells.has(`${x},${y}`), title).toBe(false);
          cells.add(`${x},${y}`);
        }
  });

  it("every alert is tested", () => {
    const tested = readFileSync(
      path.join(import.meta.dirname, "alerts.test.yml"),
      "utf8",
    );
    for (const { alert } of rulesOf(ALERTS))
      expect(tested).toContain(`alertname="${alert}"`);
  });
});
