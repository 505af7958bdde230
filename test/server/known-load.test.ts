import http from "node:http";
import { describe, expect, it } from "vitest";
import { GatedEngine, pagedEngine } from "./known-engine.js";
import { parseSeries } from "./series.js";
import { bytes, serve, type Json } from "./support.js";

const URL = "/v1/completions";

/** What a client saw of one request: counted from what it received, never from the server's figures. */
interface Seen {
  id: string;
  status: number;
  promptTokens: number;
  cachedTokens: number;
  /** Received tokens of each choice. */
  tokens: number[];
  maxTokens: number;
  finish: string | null;
}

/** Streams completions over sockets, counts, and can hang up. */
class Client {
  readonly seen: Seen[] = [];

  constructor(private readonly url: string) {}

  /** Resolves when the answer has ended, or its connection. */
  send(body: Json): { seen: Seen; ended: Promise<Seen>; hangUp(): void } {
    const seen: Seen = {
      id: body.request_id,
      status: 0,
      promptTokens: body.prompt.length,
      cachedTokens: 0,
      tokens: new Array<number>(body.n ?? 1).fill(0),
      maxTokens: body.max_tokens,
      finish: null,
    };
    this.seen.push(seen);
    const request = http.request(this.url + URL, {
      method: "POST",
      headers: { "content-type": "application/json" },
      agent: new http.Agent(),
    });
    const ended = new Promise<Seen>((resolve) => {
      request.on("error", () => resolve(seen));
      request.on("response", (response) => {
        seen.status = response.statusCode ?? 0;
        let rest = "";
        response.on("error", () => resolve(seen));
        response.on("data", (chunk: Buffer) => {
          const events = (rest + chunk.toString()).split("\n\n");
          rest = events.pop() ?? "";
          for (const event of events) this.take(seen, event);
        });
        response.on("end", () => resolve(seen));
      });
    });
    request.end(
      JSON.stringify({
        ignore_eos: true,
        stream: true,
        stream_options: { include_usage: true },
        return_token_ids: true,
        seed: 7,
        ...body,
      }),
    );
    return { seen, ended, hangUp: () => request.destroy() };
  }

  sum(pick: (seen: Seen) => number, of = this.seen): number {
    return of.reduce((sum, seen) => sum + pick(seen), 0);
  }

  private take(seen: Seen, event: string): void {
    const data = event.replace(/^data: /, "");
    if (data === "[DONE]") return;
    const { choices, usage } = JSON.parse(data);
    if (usage) seen.cachedTokens = usage.prompt_tokens_details.cached_tokens;
    for (const { index, token_ids, finish_reason } of choices) {
      seen.tokens[index] = (seen.tokens[index] ?? 0) + token_ids.length;
      seen.finish ??= finish_reason;
    }
  }
}

const total = (seen: Seen): number =>
  seen.tokens.reduce((sum, count) => sum + count, 0);

/** Eight blocks of 16 tokens: two requests of 80 tokens do not fit together. */
async function startLoad() {
  const sizes = { numBlocks: 8, maxModelLen: 96 };
  const engine = new GatedEngine(pagedEngine(sizes));
  const server = await serve(engine, {
    info: sizes,
    bounds: { maxNumQueuedReqs: 2, maxNumQueuedTokens: 60 },
  });
  const client = new Client(await server.app.listen({ port: 0 }));
  const steps = async (count: number): Promise<void> => {
    engine.allow(count);
    await server.client.call("checkIntegrity");
  };
  return { app: server.app, core: server.client, engine, client, steps };
}

describe("a load with known answers", () => {
  it("every counter and histogram has what the client counted; gauges return to 0", async () => {
    const load = await startLoad();
    const { client, steps, app } = load;
    const pending = (count: number) =>
      expect.poll(() => load.core.numPending).toBe(count);
    const run = async (...bodies: Json[]): Promise<Seen[]> => {
      const sent = bodies.map((body) => client.send(body));
      await pending(bodies.length);
      await steps(1000);
      const seen = await Promise.all(sent.map(({ ended }) => ended));
      // What is left of the steps must not let the next phase run.
      load.engine.close();
      return seen;
    };

    // The same prompt twice: the second finds three of its blocks.
    const prompt = bytes("p".repeat(50));
    await run({ request_id: "cold", prompt, max_tokens: 4 });
    await run({ request_id: "warm", prompt, max_tokens: 4 });
    // Two choices of one prompt; one token only.
    await run({ request_id: "two", prompt: bytes("two"), max_tokens: 5, n: 2 });
    await run({ request_id: "one", prompt: bytes("one"), max_tokens: 1 });
    // Ends at a token that the same request is known to make.
    const [learned] = await Promise.all([
      app
        .inject({
          method: "POST",
          url: URL,
          payload: {
            prompt: bytes("stop"),
            max_tokens: 6,
            seed: 7,
            ignore_eos: true,
            return_token_ids: true,
            request_id: "learn",
          },
        })
        .then((response) => response.json()),
      pending(1).then(() => steps(1000)),
    ]);
    load.engine.close();
    const ids: number[] = learned.choices[0].token_ids;
    client.seen.push({
      id: "learn",
      status: 200,
      promptTokens: 4,
      cachedTokens: 0,
      tokens: [ids.length],
      maxTokens: 6,
      finish: "length",
    });
    const stop = ids[3] as number;
    await run({
      request_id: "stop",
      prompt: bytes("stop"),
      max_tokens: 6,
      stop_token_ids: [stop],
    });
    // Too much for the pool: one gives way.
    await run(
      { request_id: "left", prompt: bytes("l".repeat(25)), max_tokens: 60 },
      { request_id: "right", prompt: bytes("r".repeat(25)), max_tokens: 60 },
    );

    // Nothing is admitted: two wait, the third is one too many, and a long one too long.
    const cut = client.send({
      request_id: "cut",
      prompt: bytes("cut"),
      max_tokens: 50,
    });
    await pending(1);
    const long = await client.send({
      request_id: "long",
      prompt: bytes("x".repeat(58)),
      max_tokens: 1,
    }).ended;
    const gone = client.send({
      request_id: "gone",
      prompt: bytes("gone"),
      max_tokens: 50,
      // Whole answers have their headers at the end: this one ends before them.
      stream: false,
      stream_options: null,
    });
    await pending(2);
    const refused = await client.send({
      request_id: "refused",
      prompt: bytes("no"),
      max_tokens: 1,
    }).ended;
    expect([long.status, refused.status]).toEqual([503, 503]);
    const waiting = parseSeries((await app.inject("/metrics")).body);
    expect(waiting.get("vllm:num_requests_waiting")).toBe(2);
    gone.hangUp();
    await pending(1);
    // The step that told of that abort made a token; exactly six more, then the other client hangs up as well.
    await steps(6);
    await expect.poll(() => total(cut.seen)).toBe(7);
    cut.hangUp();
    await pending(0);
    const wrong = await client.send({
      request_id: "wrong",
      prompt: bytes("x"),
      max_tokens: -1,
    }).ended;
    expect(wrong.status).toBe(400);
    await check(load, new Set(["long", "refused", "wrong", "gone"]));
  });
});

async function check(
  { app, client, engine }: Awaited<ReturnType<typeof startLoad>>,
  neverScheduled: ReadonlySet<string>,
): Promise<void> {
  const metrics = parseSeries((await app.inject("/metrics")).body);
  const ran = client.seen.filter(({ id }) => !neverScheduled.has(id));
  const gone = client.seen.filter(({ id }) => id === "gone");
  const ended = [...ran, ...gone];
  const sum = (pick: (seen: Seen) => number, of = ran) => client.sum(pick, of);
  const timelines = await Promise.all(
    ran.map(async ({ id }) => (await app.inject(`/v1/requests/${id}`)).json()),
  );
  const prompts = timelines.map((timeline: Json) => timeline.prompts[0]);
  const preemptions = prompts.reduce(
    (n, { preemptions }) => n + preemptions,
    0,
  );
  const misses = (reason: string): number =>
    prompts.filter((prompt) => prompt.cache_miss === reason).length;
  const finished = (finish: string): number =>
    ran.filter((seen) => seen.finish === finish).length;
  const http = (status: string): string =>
    `http_requests_total{method="POST",status="${status}",handler="${URL}"}`;
  expect(preemptions).toBeGreaterThan(0);

  const promptTokens = sum(({ promptTokens }) => promptTokens);
  const cached = sum(({ cachedTokens }) => cachedTokens);
  const generated = sum(total);
  expect(cached).toBe(48);
  const several = ran.filter((seen) => total(seen) > seen.tokens.length);
  const counts: Record<string, number> = {
    "vllm:prompt_tokens_total": promptTokens,
    "vllm:prompt_tokens_cached_total": cached,
    'vllm:prompt_tokens_by_source_total{source="local_cache_hit"}': cached,
    'vllm:prompt_tokens_by_source_total{source="local_compute"}':
      promptTokens - cached,
    'vllm:prompt_tokens_by_source_total{source="external_kv_transfer"}': 0,
    "vllm:prefix_cache_queries_total": promptTokens,
    "vllm:prefix_cache_hits_total": cached,
    "vllm:generation_tokens_total": generated,
    "vllm:num_preemptions_total": preemptions,
    'octavo_key_tokens_total{key="none",kind="prompt"}': promptTokens,
    'octavo_key_tokens_total{key="none",kind="generation"}': generated,
    'vllm:request_success_total{finished_reason="stop"}': finished("stop"),
    'vllm:request_success_total{finished_reason="length"}': finished("length"),
    'vllm:request_success_total{finished_reason="abort"}': 2,
    'vllm:request_success_total{finished_reason="error"}': 0,
    'vllm:admission_rejections_total{reason="max_num_queued_reqs"}': 1,
    'vllm:admission_rejections_total{reason="max_num_queued_tokens"}': 1,
    'octavo_prefix_cache_miss_total{reason="cold"}': misses("cold"),
    'octavo_prefix_cache_miss_total{reason="evicted"}': misses("evicted"),
    'octavo_prefix_cache_miss_total{reason="salt"}': 0,
    'octavo_prefix_cache_miss_total{reason="too_short"}': misses("too_short"),
    [http("2xx")]: ran.length - 1,
    // "gone" and "cut" by the clients' hanging up, "wrong" by its field.
    [http("4xx")]: 3,
    [http("5xx")]: 2,
  };
  const histograms: Record<string, [count: number, sum: number | null]> = {
    "vllm:time_to_first_token_seconds": [ran.length, null],
    "vllm:inter_token_latency_seconds": [
      sum((seen) => total(seen) - seen.tokens.length),
      null,
    ],
    "vllm:request_time_per_output_token_seconds": [several.length, null],
    "vllm:e2e_request_latency_seconds": [ended.length, null],
    "vllm:request_queue_time_seconds": [ran.length, null],
    "vllm:request_prefill_time_seconds": [ran.length, null],
    "vllm:request_decode_time_seconds": [ran.length, null],
    "vllm:request_inference_time_seconds": [ran.length, null],
    "vllm:request_prompt_tokens": [
      ended.length,
      sum(({ promptTokens }) => promptTokens, ended),
    ],
    "vllm:request_generation_tokens": [ended.length, generated],
    "vllm:request_max_num_generation_tokens": [
      ended.length,
      sum(({ tokens }) => Math.max(...tokens)),
    ],
    "vllm:request_params_max_tokens": [
      ended.length,
      sum(({ maxTokens }) => maxTokens, ended),
    ],
    "vllm:request_params_n": [
      ended.length,
      sum(({ tokens }) => tokens.length, ended),
    ],
    "vllm:request_prefill_kv_computed_tokens": [
      ended.length,
      promptTokens - cached,
    ],
  };
  for (const [name, [count, sum]] of Object.entries(histograms)) {
    counts[`${name}_count`] = count;
    counts[`${name}_bucket{le="+Inf"}`] = count;
    if (sum !== null) counts[`${name}_sum`] = sum;
  }
  counts["vllm:iteration_tokens_total_count"] = engine.numSteps;
  for (const gauge of [
    "vllm:num_requests_running",
    "vllm:num_requests_waiting",
    'vllm:num_requests_waiting_by_reason{reason="capacity"}',
    'vllm:num_requests_waiting_by_reason{reason="deferred"}',
    "vllm:kv_cache_usage_perc",
    "octavo_last_step_age_seconds",
  ])
    counts[gauge] = 0;
  const found = Object.fromEntries(
    Object.keys(counts).map((name) => [name, metrics.get(name)]),
  );
  expect(found).toEqual(counts);
}
