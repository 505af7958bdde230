import { describe, expect, it } from "vitest";
import { parseSpecDecode } from "../../bench/serve/spec-decode.js";
import { ENGINE_DEFAULTS } from "../../src/core/config.js";
import type { Sequence } from "../../src/core/sequence.js";
import { Engine } from "../../src/engine/engine.js";
import { emptyStats, type EngineStats } from "../../src/engine/stats.js";
import { FakeRunner, fakeToken } from "../../src/runner/fake-runner.js";
import { watchAcceptance } from "../../src/server/speculation.js";
import { SpecCounter } from "../../src/spec/spec-stats.js";
import { OracleDrafter } from "../engine/simulation.js";
import { parseSeries } from "./series.js";
import { bytes, serve, sseEvents, VOCAB, type Json } from "./support.js";

const K = 4;

/** The tokens of the fake model, which draws from the seed alone. */
function coming(sequence: Sequence, count: number): number[] {
  const { tokens, numTokens, request } = sequence;
  const all = [...tokens.subarray(0, numTokens)];
  const { seedLo, seedHi } = request.params;
  for (let k = 0; k < count; k++)
    all.push(fakeToken(all, all.length, seedLo, seedHi, VOCAB).token);
  return all.slice(numTokens);
}

/** A server over the fake model, `rightness` of whose drafts are right. */
function serveSpeculating(rightness: number) {
  const runner = new FakeRunner({
    maxNumTokens: 64,
    maxNumSeqs: 4,
    maxNumSamples: 4 * (1 + K),
    maxModelLen: 256,
    numBlocks: 64,
    vocabSize: VOCAB,
  });
  const engine = new Engine(
    runner,
    {
      ...ENGINE_DEFAULTS,
      maxNumSeqs: 4,
      speculativeConfig: {
        method: "ngram",
        numSpeculativeTokens: K,
        adaptive: false,
        promptLookupMin: 1,
        promptLookupMax: 1,
      },
    },
    {
      drafter: new OracleDrafter(
        {
          numSpeculativeTokens: K,
          adaptive: false,
          spareRows: 0,
          rightness,
          readiness: 1,
          oracle: coming,
        },
        null,
      ),
    },
  );
  return serve(engine, {
    info: {
      maxModelLen: 256,
      speculation: { method: "ngram", numSpeculativeTokens: K },
    },
  });
}

const body = {
  prompt: bytes("speculate"),
  max_tokens: 120,
  ignore_eos: true,
  seed: 5,
  return_token_ids: true,
};

describe("speculation", () => {
  it("counts what a client counts from the stream", async () => {
    const { app, post } = await serveSpeculating(0.7);
    const response = await post("/v1/completions", { ...body, stream: true });
    let received = 0;
    for (const event of sseEvents(response.body)) {
      const { choices } = event;
      received += choices?.[0]?.token_ids?.length ?? 0;
    }
    expect(received).toBe(120);
    const text = (await app.inject("/metrics")).body;
    const counted = parseSpecDecode(text);
    const series = parseSeries(text);
    // The one request ran alone: what its steps did not sample themselves were accepted drafts.
    const numSteps = series.get("vllm:iteration_tokens_total_count") ?? 0;
    expect(series.get("vllm:generation_tokens_total")).toBe(received);
    expect(counted?.acceptedTokens).toBe(received - numSteps);
    expect(counted?.acceptedTokens).toBeGreaterThan(20);
    // Every step but that of the prompt, one ahead of it, and the last where nothing was left to draft for.
    expect(counted?.numDrafts).toBeGreaterThanOrEqual(numSteps - 3);
    expect(counted?.numDrafts).toBeLessThan(numSteps);
    expect(counted?.perPosition).toHaveLength(K);
    const sum = counted?.perPosition.reduce((a, b) => a + b);
    expect(sum).toBe(counted?.acceptedTokens);
    expect(series.get("octavo_draft_acceptance_length")).toBeCloseTo(
      1 + (counted?.acceptedTokens ?? 0) / (counted?.numDrafts ?? 1),
    );
  });

  it("gives a request fewer drafts, or none, with the same output", async () => {
    const { app, post } = await serveSpeculating(1);
    const ask = async (most: number | null): Promise<Json> => {
      const speculative =
        most === null ? null : { num_speculative_tokens: most };
      const answer = await post("/v1/completions", { ...body, speculative });
      return answer.json().choices[0].token_ids;
    };
    const drafted = async (): Promise<[drafts: number, tokens: number]> => {
      const counted = parseSpecDecode((await app.inject("/metrics")).body);
      return [counted?.numDrafts ?? -1, counted?.draftTokens ?? -1];
    };
    const without = await ask(0);
    expect(await drafted()).toEqual([0, 0]);
    expect(await ask(1)).toEqual(without);
    const [drafts, tokens] = await drafted();
    expect(drafts).toBeGreaterThan(50);
    expect(tokens).toBe(drafts);
    expect(await ask(null)).toEqual(without);
    const [all, allTokens] = await drafted();
    expect(allTokens - tokens).toBeGreaterThan((K - 1) * (all - drafts));
  });

  it("ends at a stop string in the middle of accepted drafts, like plain decoding", async () => {
    const { post } = await serveSpeculating(1);
    const ask = async (most: number, stop?: string): Promise<Json> => {
      const speculative = { num_speculative_tokens: most };
      const answer = await post("/v1/completions", {
        ...body,
        ...(stop !== undefined && { stop }),
        logprobs: 1,
        speculative,
      });
      const { choices, usage } = answer.json<Json>();
      return { choices, usage };
    };
    const { choices } = await ask(0);
    const text = choices[0].text as string;
    const stops = [...text.matchAll(/[ -~]{2}/g)].slice(0, 12);
    expect(stops.length).toBeGreaterThan(6);
    for (const [stop] of stops) {
      const plain = await ask(0, stop);
      expect(plain.choices[0].finish_reason).toBe("stop");
      expect(await ask(K, stop)).toEqual(plain);
    }
  });

  it.each([
    ["/v1/completions", { prompt: "x" }],
    [
      "/v1/chat/completions",
      { messages: [{ role: "user", content: "x" }], max_tokens: 1 },
    ],
    ["/v1/responses", { input: "x" }],
    [
      "/v1/messages",
      {
        model: "tiny",
        max_tokens: 1,
        messages: [{ role: "user", content: "x" }],
      },
    ],
  ])("names what is wrong about it on %s", async (url, rest) => {
    const { post } = await serveSpeculating(1);
    const errorOf = async (speculative: unknown): Promise<string> => {
      const answer = await post(url, { ...rest, speculative });
      expect(answer.statusCode).toBe(400);
      return answer.json<Json>().error.message;
    };
    expect(await errorOf({ num_speculative_tokens: K + 1 })).toMatch(
      /speculative\.num_speculative_tokens.*an integer from 0 to 4.*5/,
    );
    expect(await errorOf({ method: "ngram" })).toMatch(
      /speculative.*only num_speculative_tokens/,
    );
    expect(await errorOf(3)).toMatch(/speculative/);
  });
});

describe("watchAcceptance", () => {
  /** Plays [judged drafts in all, conditional acceptance] as steps; returns what was said, and whether it still listens. */
  function play(steps: [number, number][]): {
    lines: unknown[];
    listens: boolean;
  } {
    const lines: unknown[] = [];
    const listeners = new Set<(stats: EngineStats) => void>();
    const engine = {
      info: {
        speculation: { method: "ngram", numSpeculativeTokens: K },
      } as never,
      onStep: (listener: (stats: EngineStats) => void) => {
        listeners.add(listener);
        return () => listeners.delete(listener);
      },
    };
    watchAcceptance(engine, (fields, message) => lines.push([fields, message]));
    const { stats } = new SpecCounter(K);
    for (const [numJudged, conditionalAcceptance] of steps) {
      Object.assign(stats, { numJudged, conditionalAcceptance });
      for (const listener of [...listeners])
        listener({ ...emptyStats(1), speculation: stats });
    }
    return { lines, listens: listeners.size > 0 };
  }

  it("says once that most drafts are refused, after a thousand of them", () => {
    expect(play([[999, 0.3]])).toEqual({ lines: [], listens: true });
    const { lines, listens } = play([
      [500, 0.3],
      [1000, 0.2512],
      [5000, 0.1],
    ]);
    expect(lines).toEqual([
      [
        { method: "ngram", conditionalAcceptance: 0.251, acceptanceLength: 1 },
        "most drafts are refused: speculation gains little on this traffic",
      ],
    ]);
    expect(listens).toBe(false);
  });

  it("counts anew where half of them were right in between", () => {
    const steps: [number, number][] = [
      [900, 0.4],
      [950, 0.5],
      [1900, 0.4],
    ];
    expect(play(steps).lines).toEqual([]);
    expect(play([...steps, [1950, 0.4]]).lines).toHaveLength(1);
  });
});
