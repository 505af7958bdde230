import { describe, expect, it } from "vitest";
import { ENGINE_DEFAULTS } from "../../src/core/config.js";
import { Engine } from "../../src/engine/engine.js";
import { FakeRunner } from "../../src/runner/fake-runner.js";
import { parseSeries } from "./series.js";
import {
  bytes,
  says,
  ScriptedEngine,
  serve,
  VOCAB,
  type Json,
} from "./support.js";

const URL = "/v1/completions";

describe("GET /metrics", () => {
  it("counts every request and token once, whatever became of it", async () => {
    const { app, post } = await serve(new ScriptedEngine(says("abc.")));
    await post(URL, { prompt: "xy" });
    await post(URL, { prompt: "x", max_tokens: 2, n: 2 });
    await post(URL, { prompt: "xyz", stop: ".", stream: true });
    const response = await app.inject("/metrics");
    expect(response.headers["content-type"]).toMatch(
      /^text\/plain; version=0\.0\.4/,
    );
    const series = parseSeries(response.body);
    const expected: Record<string, number> = {
      'vllm:request_success_total{finished_reason="stop"}': 2,
      'vllm:request_success_total{finished_reason="length"}': 1,
      'vllm:request_success_total{finished_reason="abort"}': 0,
      'vllm:request_success_total{finished_reason="repetition"}': 0,
      "vllm:prompt_tokens_total": 6,
      'vllm:prompt_tokens_by_source_total{source="local_compute"}': 6,
      'vllm:prompt_tokens_by_source_total{source="local_cache_hit"}': 0,
      "vllm:prompt_tokens_cached_total": 0,
      "vllm:generation_tokens_total": 5 + 4 + 4,
      "vllm:time_to_first_token_seconds_count": 3,
      "vllm:inter_token_latency_seconds_count": 4 + 2 + 3,
      "vllm:e2e_request_latency_seconds_count": 3,
      "vllm:request_queue_time_seconds_count": 3,
      "vllm:request_prefill_time_seconds_count": 3,
      "vllm:request_decode_time_seconds_count": 3,
      "vllm:request_inference_time_seconds_count": 3,
      "vllm:request_time_per_output_token_seconds_count": 3,
      "vllm:request_prompt_tokens_sum": 6,
      "vllm:request_generation_tokens_sum": 13,
      "vllm:request_max_num_generation_tokens_sum": 5 + 2 + 4,
      "vllm:request_params_max_tokens_sum": 16 + 2 + 16,
      "vllm:request_params_n_sum": 4,
      "vllm:request_prefill_kv_computed_tokens_sum": 6,
      "vllm:num_requests_running": 0,
      "vllm:num_requests_waiting": 0,
      'http_requests_total{method="POST",status="2xx",handler="/v1/completions"}': 3,
    };
    for (const [name, value] of Object.entries(expected))
      expect([name, series.get(name)]).toEqual([name, value]);
    expect(
      series.get('vllm:request_params_n_bucket{le="1.0"}'),
      "whole bounds print as 1.0",
    ).toBe(2);
    expect(response.body).not.toMatch(/le="\d+"/);
    expect(response.body).toMatch(
      /vllm:num_requests_running\{model_name="tiny",engine="0"\} 0/,
    );
    expect(response.body).toMatch(
      /vllm:cache_config_info\{engine="0",block_size="16"/,
    );
  });

  it("has the prefix cache's figures, equal to usage's (paged engine, fake runner)", async () => {
    const limits = {
      maxNumTokens: 64,
      maxNumSeqs: 4,
      maxNumSamples: 8,
      maxModelLen: 128,
      numBlocks: 32,
      vocabSize: VOCAB,
    };
    const runner = new FakeRunner(limits);
    const engine = new Engine(runner, { ...ENGINE_DEFAULTS, maxNumSeqs: 4 });
    const { app, client, post } = await serve(engine, {
      adminApiKey: "admin",
      info: { numBlocks: 32 },
    });
    const ask = async (): Promise<Json> =>
      (
        await post(URL, {
          prompt: bytes("p".repeat(50)),
          max_tokens: 3,
          ignore_eos: true,
          seed: 1,
          return_token_ids: true,
        })
      ).json();
    const [first, second] = [await ask(), await ask()];
    expect(first.usage.prompt_tokens_details.cached_tokens).toBe(0);
    expect(second.usage.prompt_tokens_details.cached_tokens).toBe(48);
    expect(second.choices[0].token_ids).toEqual(first.choices[0].token_ids);
    const series = parseSeries((await app.inject("/metrics")).body);
    expect(series.get("vllm:prefix_cache_queries_total")).toBe(100);
    expect(series.get("vllm:prefix_cache_hits_total")).toBe(48);
    expect(
      series.get(
        'vllm:prompt_tokens_by_source_total{source="local_cache_hit"}',
      ),
    ).toBe(48);
    expect(series.get("vllm:request_prefill_kv_computed_tokens_sum")).toBe(52);
    expect(series.get("vllm:kv_cache_usage_perc")).toBe(0);
    const blocks = async (): Promise<(number | undefined)[]> => {
      const now = parseSeries((await app.inject("/metrics")).body);
      return ["used", "cached", "free"].map((state) =>
        now.get(`octavo_kv_blocks{state="${state}"}`),
      );
    };
    expect(await blocks()).toEqual([0, 3, 29]);
    const reset = await app.inject({
      method: "POST",
      url: "/reset_prefix_cache",
      headers: { authorization: "Bearer admin" },
    });
    expect(reset.json()).toEqual({ success: true });
    expect(await blocks()).toEqual([0, 0, 32]);
    const third = await ask();
    expect(third.usage.prompt_tokens_details.cached_tokens).toBe(0);
    expect(client.stats.numFreeBlocks).toBe(32);
  });
});
