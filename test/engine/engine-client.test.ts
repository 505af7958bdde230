import { describe, expect, it } from "vitest";
import { FinishReason } from "../../src/core/request.js";
import type { Request } from "../../src/core/request.js";
import { EngineClient } from "../../src/engine/engine-client.js";
import type { QueueBounds } from "../../src/engine/engine-client.js";
import { createLocalTransport } from "../../src/engine/local-transport.js";
import { makeRequest } from "../runner/support.js";
import { CountingEngine, Recorder } from "./engine-client-support.js";

async function connect(
  bounds?: QueueBounds,
): Promise<{ client: EngineClient; engine: CountingEngine }> {
  const engine = new CountingEngine();
  const transport = createLocalTransport(engine, { info: { numBlocks: 8 } });
  return { client: await EngineClient.connect(transport, bounds), engine };
}

function request(maxTokens: number, fields: Partial<Request> = {}): Request {
  return makeRequest([1, 2, 3], { maxTokens }, fields);
}

describe("EngineClient", () => {
  it("tells each choice's tokens in order, admission first, finish last", async () => {
    const { client, engine } = await connect();
    const recorder = new Recorder(2);
    client.submit(request(3, { n: 2 }), recorder);
    expect(client.numPending).toBe(1);
    await recorder.ended;
    expect(recorder.tokens).toEqual([
      [1, 2, 3],
      [101, 102, 103],
    ]);
    expect(recorder.log[0]).toBe("admitted");
    expect(recorder.log.slice(-2)).toEqual(["finished", "finished"]);
    expect(client.numPending).toBe(0);
    expect(engine.numIntegrityChecks).toBe(1);
    await client.close();
  });

  it("calls onStep, then onFlush, once after each step's events", async () => {
    const { client } = await connect();
    const order: string[] = [];
    const recorder = new Recorder();
    recorder.onToken = () => order.push("event");
    const end = client.onStep((stats) => order.push(`step ${stats.numSteps}`));
    client.onFlush(() => order.push("flush"));
    client.submit(request(2), recorder);
    await recorder.ended;
    const step = (n: number): string[] => ["event", `step ${n}`, "flush"];
    await client.call("checkIntegrity");
    expect(order).toEqual([...step(1), ...step(2)]);
    expect(client.stats.numSteps).toBe(2);
    end();
    const second = new Recorder();
    client.submit(request(1), second);
    await second.ended;
    expect(order).not.toContain("step 3");
    await client.close();
  });

  it.each([
    ["abort", FinishReason.abort],
    ["stop", FinishReason.stop],
  ] as const)(
    "%s: no more events, and every choice finishes exactly once",
    async (reason, finish) => {
      const { client } = await connect();
      const recorder = new Recorder(2);
      const active = client.submit(request(1000, { n: 2 }), recorder);
      recorder.onToken = () => active.abort(-1, reason);
      await recorder.ended;
      expect(recorder.tokens).toEqual([[1]]);
      expect(recorder.finished.map((f) => [f.choice, f.finish])).toEqual([
        [0, finish],
        [1, finish],
      ]);
      active.abort();
      await client.call("checkIntegrity");
      expect(recorder.finished).toHaveLength(2);
      expect(recorder.errors).toEqual([]);
      expect(client.numPending).toBe(0);
      await client.close();
    },
  );

  it("aborts one choice and lets the others run", async () => {
    const { client } = await connect();
    const recorder = new Recorder(2);
    const active = client.submit(request(5, { n: 2 }), recorder);
    recorder.onToken = ({ choice, token }) => {
      if (choice === 1 && token === 102) active.abort(1, "stop");
    };
    await recorder.ended;
    expect(recorder.tokens).toEqual([
      [1, 2, 3, 4, 5],
      [101, 102],
    ]);
    expect(recorder.finished.map((f) => [f.choice, f.finish])).toEqual([
      [1, FinishReason.stop],
      [0, FinishReason.length],
    ]);
    await client.close();
  });

  it("reports stop for a choice that ran out in the very step of its stop string", async () => {
    const { client } = await connect();
    const recorder = new Recorder();
    const active = client.submit(request(1), recorder);
    recorder.onToken = () => active.abort(0, "stop");
    await recorder.ended;
    expect(recorder.finished.map((f) => f.finish)).toEqual([FinishReason.stop]);
    await client.close();
  });

  it("keeps a listener that throws from the others, and ends its request", async () => {
    const { client } = await connect();
    const thrown: unknown[] = [];
    client.onError((error) => thrown.push(error));
    const bad = new Recorder();
    bad.onToken = () => {
      throw new Error("listener");
    };
    const good = new Recorder();
    client.submit(request(1000), bad);
    client.submit(request(4), good);
    await good.ended;
    await client.drain();
    expect(good.tokens).toEqual([[1, 2, 3, 4]]);
    expect(bad.tokens).toEqual([[1]]);
    expect(thrown).toEqual([new Error("listener")]);
    await client.close();
  });

  it("tells a request that the engine refuses, and counts it no longer", async () => {
    const { client } = await connect();
    const recorder = new Recorder();
    client.submit(
      { ...request(1), promptTokenIds: new Int32Array(0) },
      recorder,
    );
    await recorder.ended;
    expect(recorder.errors[0]).toMatchObject({
      code: "invalid_request",
      param: "prompt",
    });
    expect([client.numPending, client.numQueuedReqs]).toEqual([0, 0]);
    await client.close();
  });

  it("refuses more biased tokens than a row has room for", async () => {
    const { client } = await connect();
    const logitBias = Array.from(
      { length: 1025 },
      (_, id): [number, number] => [id, 1],
    );
    expect(() =>
      client.submit(makeRequest([1], { logitBias }), new Recorder()),
    ).toThrow(expect.objectContaining({ code: "invalid_request" }));
    await client.close();
  });
});

describe("queue bounds", () => {
  it("refuses requests beyond max_num_queued_reqs until one is admitted", async () => {
    const { client, engine } = await connect({
      maxNumQueuedReqs: 2,
      maxNumQueuedTokens: 0,
    });
    engine.maxRunning = 1;
    const first = new Recorder();
    client.submit(request(3), first);
    const second = client.submit(request(3), new Recorder());
    const refused = expect.objectContaining({
      code: "queue_full",
      param: "max_num_queued_reqs",
    });
    expect(() => client.submit(request(3), new Recorder())).toThrow(refused);
    await first.ended;
    expect(client.numQueuedReqs).toBe(1);
    second.abort();
    await client.call("checkIntegrity");
    await client.drain();
    expect([client.numQueuedReqs, client.numQueuedTokens]).toEqual([0, 0]);
    await client.close();
  });

  it("bounds waiting prompt tokens, but takes a long prompt when none waits", async () => {
    const { client, engine } = await connect({
      maxNumQueuedReqs: 0,
      maxNumQueuedTokens: 2,
    });
    engine.maxRunning = 1;
    const first = new Recorder();
    client.submit(request(2), first);
    expect(() => client.submit(request(2), new Recorder())).toThrow(
      expect.objectContaining({ param: "max_num_queued_tokens" }),
    );
    await first.ended;
    const second = new Recorder();
    client.submit(request(1), second);
    await second.ended;
    expect(client.numQueuedTokens).toBe(0);
    await client.close();
  });
});

describe("ends", () => {
  it("ends every request with the error that ended the engine", async () => {
    const { client, engine } = await connect();
    engine.failAt = 2;
    const recorders = [new Recorder(), new Recorder()];
    for (const recorder of recorders) client.submit(request(9), recorder);
    await Promise.all(recorders.map((recorder) => recorder.ended));
    for (const { errors, tokens } of recorders) {
      expect(errors).toHaveLength(1);
      expect(errors[0]).toMatchObject({ code: "device_error" });
      expect(tokens).toEqual([[1]]);
    }
    expect(client.numPending).toBe(0);
    const gone = expect.objectContaining({ code: "device_error" });
    expect(() => client.submit(request(1), new Recorder())).toThrow(gone);
    await expect(client.call("resetPrefixCache")).rejects.toEqual(gone);
    await client.close();
  });

  it("drains: takes nothing new, finishes what runs", async () => {
    const { client } = await connect();
    const recorder = new Recorder();
    client.submit(request(5), recorder);
    const drained = client.drain();
    expect(() => client.submit(request(1), new Recorder())).toThrow(
      expect.objectContaining({ code: "shutting_down" }),
    );
    await drained;
    expect(recorder.finished).toHaveLength(1);
    await client.close();
  });

  it("closes: what is left ends with shutting_down, once", async () => {
    const { client } = await connect();
    const recorder = new Recorder();
    client.submit(request(1000), recorder);
    const call = client.call("resetPrefixCache");
    await Promise.all([
      client.close(),
      expect(call).rejects.toMatchObject({ code: "shutting_down" }),
    ]);
    await client.close();
    expect(recorder.errors.map((error) => error.code)).toEqual([
      "shutting_down",
    ]);
  });

  it("answers calls", async () => {
    const { client } = await connect();
    await expect(client.call("resetPrefixCache")).resolves.toBe(true);
    await client.close();
  });
});
