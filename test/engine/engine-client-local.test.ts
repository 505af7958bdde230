import { describe, expect, it } from "vitest";
import { ENGINE_DEFAULTS } from "../../src/core/config.js";
import { FinishReason } from "../../src/core/request.js";
import { Engine } from "../../src/engine/engine.js";
import { EngineClient } from "../../src/engine/engine-client.js";
import { createLocalTransport } from "../../src/engine/local-transport.js";
import { FakeRunner } from "../../src/runner/fake-runner.js";
import { makeRequest } from "../runner/support.js";
import { Recorder } from "./engine-client-support.js";

const NUM_BLOCKS = 24;

async function connect(asyncScheduling: boolean): Promise<EngineClient> {
  const runner = new FakeRunner({
    maxNumTokens: 32,
    maxNumSeqs: 4,
    maxNumSamples: 16,
    maxModelLen: 96,
    numBlocks: NUM_BLOCKS,
    vocabSize: 97,
  });
  const config = { ...ENGINE_DEFAULTS, model: "", asyncScheduling };
  const transport = createLocalTransport(new Engine(runner, config), {
    info: { numBlocks: NUM_BLOCKS },
    onClose: () => runner.close(),
  });
  return EngineClient.connect(transport);
}

/** Every third request is aborted after its fifth token. Returns what each said. */
async function runMany(asyncScheduling: boolean): Promise<number[][][]> {
  const client = await connect(asyncScheduling);
  const recorders = Array.from({ length: 24 }, (_, i) => {
    const n = 1 + (i % 2);
    const recorder = new Recorder(n);
    const prompt = Array.from({ length: 3 + ((5 * i) % 40) }, (_, k) => k % 97);
    const params = { maxTokens: 10 + i, temperature: 1, seedLo: i };
    const active = client.submit(makeRequest(prompt, params, { n }), recorder);
    if (i % 3 === 0)
      recorder.onToken = ({ choice }) => {
        if (recorder.tokens[choice]?.length === 5) active.abort(choice, "stop");
      };
    return recorder;
  });
  await client.drain();
  await client.call("checkIntegrity");
  for (const [i, { finished, errors }] of recorders.entries()) {
    expect(errors).toEqual([]);
    expect(finished.map((f) => f.choice).sort()).toEqual(i % 2 ? [0, 1] : [0]);
    const reason = i % 3 === 0 ? FinishReason.stop : FinishReason.length;
    for (const { finish } of finished) expect(finish).toBe(reason);
  }
  expect(client.stats).toMatchObject({
    numRunning: 0,
    numWaiting: 0,
    kvCacheUsage: 0,
    numFreeBlocks: NUM_BLOCKS,
  });
  await client.close();
  return recorders.map((recorder) => recorder.tokens);
}

describe("EngineClient over the scheduler and a fake runner", () => {
  it("ends every choice once, frees every block, and says the same one step ahead", async () => {
    const ahead = await runMany(true);
    const plain = await runMany(false);
    expect(ahead).toEqual(plain);
    for (const [i, tokens] of ahead.entries())
      for (const choice of tokens)
        expect(choice).toHaveLength(i % 3 === 0 ? 5 : 10 + i);
  });
});
