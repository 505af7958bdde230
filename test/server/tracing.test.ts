import { afterEach, describe, expect, it } from "vitest";
import { startTracing, type RequestTracer } from "../../src/server/tracing.js";
import { Collector, type CollectedSpan } from "./collector.js";
import { GatedEngine, pagedEngine } from "./known-engine.js";
import { bytes, says, ScriptedEngine, serve, type Json } from "./support.js";

const URL = "/v1/completions";
const PARENT = {
  trace: "0af7651916cd43dd8448eb211c80319c",
  span: "b7ad6b7169203331",
};

const closing: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0)) await close();
});

async function collected(): Promise<{
  collector: Collector;
  tracer: RequestTracer;
}> {
  const collector = new Collector();
  const endpoint = await collector.listen();
  const tracer = await startTracing({
    endpoint,
    modelName: "tiny",
    version: "1.2.3",
    onProblem: () => undefined,
  });
  closing.push(
    () => tracer.shutdown(),
    () => collector.close(),
  );
  return { collector, tracer };
}

describe("traces", () => {
  it("have a span for each request, in the caller's trace, with what happened to it", async () => {
    const { collector, tracer } = await collected();
    const { app } = await serve(pagedEngine(), { tracer });
    const before = BigInt(Date.now()) * 1_000_000n;
    const response = await app.inject({
      method: "POST",
      url: URL,
      headers: {
        "x-request-id": "mine",
        traceparent: `00-${PARENT.trace}-${PARENT.span}-01`,
        tracestate: "vendor=opaque",
      },
      payload: {
        prompt: bytes("p".repeat(40)),
        max_tokens: 6,
        ignore_eos: true,
        temperature: 0.5,
        top_p: 0.9,
        n: 2,
      },
    });
    expect(response.statusCode).toBe(200);
    await tracer.shutdown();
    expect(collector.requests[0]).toEqual({
      path: "/v1/traces",
      contentType: "application/json",
    });
    expect(collector.resources[0]).toMatchObject({
      "service.name": "octavo",
      "service.version": "1.2.3",
    });
    expect(collector.spans).toHaveLength(1);
    const root = collector.of("mine") as CollectedSpan;
    expect(root.name).toBe("llm_request");
    expect(root.traceId).toBe(PARENT.trace);
    expect(root.parentSpanId).toBe(PARENT.span);
    expect(root.traceState).toBe("vendor=opaque");
    expect(root.kind).toBe(2);
    expect(root.status.code ?? 0).toBe(0);
    expect(root.attributes).toMatchObject({
      "gen_ai.operation.name": "text_completion",
      "gen_ai.request.model": "tiny",
      "gen_ai.response.model": "tiny",
      "gen_ai.request.n": 2,
      "gen_ai.request.max_tokens": 6,
      "gen_ai.request.temperature": 0.5,
      "gen_ai.request.top_p": 0.9,
      "gen_ai.usage.prompt_tokens": 40,
      "gen_ai.usage.completion_tokens": 12,
      "gen_ai.usage.input_tokens": 40,
      "gen_ai.usage.output_tokens": 12,
      "gen_ai.usage.cache_read.input_tokens": 0,
      "gen_ai.response.finish_reasons": ["length"],
      "http.route": URL,
    });
    expect(root.events.map(({ name }) => name)).toEqual([
      "queued",
      "scheduled",
      "first_token",
      "last_token",
    ]);
    const [queued, scheduled, first, last] = root.events.map(
      ({ time }) => time,
    ) as [bigint, bigint, bigint, bigint];
    const edges = [root.start, queued, scheduled, first, last, root.end];
    expect(edges).toEqual([...edges].sort((a, b) => (a < b ? -1 : 1)));
    const phases: [name: string, from: bigint, to: bigint][] = [
      ["e2e", root.start, root.end],
      ["time_in_queue", queued, scheduled],
      ["time_in_model_prefill", scheduled, first],
      ["time_in_model_decode", first, last],
      ["time_in_model_inference", scheduled, last],
      ["time_to_first_token", root.start, first],
    ];
    for (const [name, from, to] of phases)
      expect(
        Number(root.attributes[`gen_ai.latency.${name}`]),
        name,
      ).toBeCloseTo(Number(to - from) / 1e9, 5);
    // Wall-clock times: the clocks are two.
    expect(Number(root.start - before) / 1e9).toBeGreaterThan(-5);
    expect(Number(root.start - before) / 1e9).toBeLessThan(60);
  });

  it("record preemptions, aborts, refusals and failures", async () => {
    const { collector, tracer } = await collected();
    const gated = new GatedEngine(
      pagedEngine({
        numBlocks: 8,
        maxModelLen: 96,
        enablePrefixCaching: false,
      }),
    );
    const paged = await serve(gated, {
      tracer,
      info: { numBlocks: 8, maxModelLen: 96 },
    });
    const ask = (id: string) =>
      paged.post(URL, {
        prompt: bytes(id.repeat(40)),
        max_tokens: 40,
        ignore_eos: true,
        request_id: id,
      });
    const answers = [ask("a"), ask("b")];
    await expect.poll(() => paged.client.numPending).toBe(2);
    gated.allow(1000);
    await paged.client.call("checkIntegrity");
    await Promise.all(answers);
    const scripted = new ScriptedEngine(says("x"));
    scripted.running = false;
    const { post, client } = await serve(scripted, {
      tracer,
      bounds: { maxNumQueuedReqs: 1, maxNumQueuedTokens: 0 },
    });
    await post(URL, { prompt: ["x", "y"], request_id: "full" });
    await expect.poll(() => client.numPending).toBe(0);
    const pending = post(URL, { prompt: "x", request_id: "lost" });
    await expect.poll(() => client.numPending).toBe(1);
    scripted.failNext = true;
    scripted.running = true;
    await client.call("checkIntegrity").catch(() => undefined);
    expect((await pending).statusCode).toBe(500);
    await tracer.shutdown();
    const waited = collector.of("b");
    expect(waited?.events.map(({ name }) => name)).toContain("preempted");
    const aborted = collector.of("full-0");
    expect(aborted?.events.map(({ name }) => name)).toEqual([
      "queued",
      "aborted",
    ]);
    expect(aborted?.attributes["gen_ai.response.finish_reasons"]).toEqual([
      "abort",
    ]);
    for (const [id, code] of [
      ["full-1", "queue_full"],
      ["lost", "internal_error"],
    ] as const) {
      const root = collector.of(id);
      expect(root?.status.code, id).toBe(2);
      expect(root?.status.message).not.toBe("");
      expect(root?.attributes["error.type"]).toBe(code);
    }
  });

  it("are traces of their own without a valid traceparent, and none where the caller samples none", async () => {
    const { collector, tracer } = await collected();
    const { app } = await serve(new ScriptedEngine(says("x")), { tracer });
    const ask = (id: string, traceparent: string | undefined) =>
      app.inject({
        method: "POST",
        url: URL,
        headers: {
          "x-request-id": id,
          ...(traceparent !== undefined && { traceparent }),
        },
        payload: { prompt: "a" },
      });
    const { trace, span } = PARENT;
    const invalid: Json = {
      none: undefined,
      short: `00-${trace}-${span}`,
      zeros: `00-${"0".repeat(32)}-${span}-01`,
      forbidden: `ff-${trace}-${span}-01`,
      more: `00-${trace}-${span}-01-extra`,
      upper: `00-${trace.toUpperCase()}-${span}-01`,
    };
    for (const [id, header] of Object.entries(invalid))
      await ask(id, header as string | undefined);
    await ask("later", `cc-${trace}-${span}-01-more`);
    await ask("unsampled", `00-${trace}-${span}-00`);
    await tracer.shutdown();
    for (const id of Object.keys(invalid)) {
      const root = collector.of(id);
      expect(root?.parentSpanId, id).toBeUndefined();
      expect(root?.traceId, id).toMatch(/^[0-9a-f]{32}$/);
      expect(root?.traceId, id).not.toBe(trace);
    }
    expect(collector.of("later")?.parentSpanId).toBe(span);
    expect(collector.of("unsampled")).toBeUndefined();
  });

  it("a collector that is away costs neither requests nor the shutdown", async () => {
    const gone = new Collector();
    const endpoint = await gone.listen();
    await gone.close();
    const problems: string[] = [];
    process.env["OTEL_EXPORTER_OTLP_TRACES_TIMEOUT"] = "500";
    const tracer = await startTracing({
      endpoint,
      modelName: "tiny",
      version: "0",
      onProblem: (message) => problems.push(message),
    });
    delete process.env["OTEL_EXPORTER_OTLP_TRACES_TIMEOUT"];
    const { post } = await serve(new ScriptedEngine(says("x")), { tracer });
    for (let i = 0; i < 5; i++)
      expect((await post(URL, { prompt: "a" })).statusCode).toBe(200);
    await tracer.shutdown();
    expect(problems).toHaveLength(1);
    expect(problems[0]).toMatch(/^The last spans are lost: ./);
  });

  it("a bounded number of spans waits for a collector that does not answer", async () => {
    process.env["OTEL_BSP_MAX_QUEUE_SIZE"] = "64";
    process.env["OTEL_BSP_MAX_EXPORT_BATCH_SIZE"] = "16";
    const { collector, tracer } = await collected();
    delete process.env["OTEL_BSP_MAX_QUEUE_SIZE"];
    delete process.env["OTEL_BSP_MAX_EXPORT_BATCH_SIZE"];
    const { post } = await serve(new ScriptedEngine(says("x")), { tracer });
    collector.hold();
    for (let i = 0; i < 120; i++) await post(URL, { prompt: "a" });
    collector.release();
    await tracer.shutdown();
    expect(collector.spans.length).toBeGreaterThan(0);
    // One batch under way, and the queue.
    expect(collector.spans.length).toBeLessThanOrEqual(16 + 64);
  });

  it("an endpoint that is no URL is refused by the flag's name", async () => {
    for (const endpoint of ["", "localhost:4317", "grpc://host:4317"])
      await expect(
        startTracing({
          endpoint,
          modelName: "tiny",
          version: "0",
          onProblem: () => undefined,
        }),
      ).rejects.toMatchObject({
        code: "invalid_config",
        param: "otlp-traces-endpoint",
      });
  });
});
