/**
 * What rounding the inputs of INT4 layers to 8 bits costs trained models: the reason why it is the default on the CPU
 * (docs/decisions/0030-int8-activations.md).
 */
import { readFileSync } from "node:fs";
import path from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { Voice } from "../../models/starter/corpus/dialogue.js";
import { dialogue } from "../../models/starter/corpus/mixture.js";
import { Session } from "../../models/starter/eval/session.js";
import { NEUTRAL_SAMPLING } from "../../src/core/sampling-params.js";
import { loadTokenizer } from "../../src/text/tokenizer.js";
import {
  removeTemporaryFolders,
  temporaryFolder,
} from "../quantize/support.js";
import { openEngine } from "./native-engine.js";
import { hasShared, runOctavo, SHARED } from "./server-process.js";

afterAll(removeTemporaryFolders);

/** Of the perplexity with f32 inputs. */
const MOST = 0.005;
const KINDS = ["f32", "int8"] as const;
type Kind = (typeof KINDS)[number];

/** Compares, and says the figures that docs/performance.md has. */
function expectSame(name: string, perplexity: Record<Kind, number>): void {
  const change = perplexity.int8 / perplexity.f32 - 1;
  console.log(
    `${name}: perplexity ${perplexity.f32.toFixed(4)} -> ${perplexity.int8.toFixed(4)} (${(100 * change).toFixed(3)} %)`,
  );
  expect(perplexity.f32).toBeGreaterThan(1);
  expect(Math.abs(change)).toBeLessThan(MOST);
  // Else nothing was rounded at all.
  expect(change).not.toBe(0);
}

it("starter, INT4", async () => {
  const voice = new Voice(20_261_121, true, 1000);
  const dialogues = Array.from({ length: 60 }, () => dialogue(voice, 2));
  const perplexity = { f32: 0, int8: 0 };
  for (const cpuActivations of KINDS) {
    const session = await Session.open("models/starter/awq", {
      cpuActivations,
    });
    perplexity[cpuActivations] = await session.perplexity(dialogues);
    session.close();
  }
  expectSame("starter/awq", perplexity);
});

const LENGTH = 128;

/** exp of the mean negative log-likelihood of a text's tokens, cut into sequences of 128. */
async function perplexityOf(
  model: string,
  ids: Int32Array,
  cpuActivations: Kind,
): Promise<number> {
  const opened = await openEngine(model, { cpuActivations, maxNumSeqs: 4 });
  const requests = Array.from(
    { length: Math.floor(ids.length / LENGTH) },
    (_, i) => ({
      id: String(i),
      handle: i,
      promptTokenIds: ids.slice(i * LENGTH, (i + 1) * LENGTH),
      params: { ...NEUTRAL_SAMPLING, maxTokens: 1, promptLogprobs: 0 },
      n: 1,
      priority: 0,
      cacheSalt: "",
      arrivalTime: 0,
      bypassPrefixCache: true,
    }),
  );
  opened.run(requests, requests.length);
  opened.close();
  const logprobs = [...opened.outcomes.values()]
    .flatMap(({ promptLogprobs }) => promptLogprobs)
    .filter(Number.isFinite);
  expect(logprobs.length).toBeGreaterThan(3000);
  return Math.exp(
    -logprobs.reduce((sum, value) => sum + value, 0) / logprobs.length,
  );
}

if (!hasShared) it.skip("8-bit inputs: ../shared is missing", () => undefined);

describe.runIf(hasShared).each([
  // 172, the width of the feed-forward layers, is no multiple of a group.
  ["stories260k", ["--group-size", "32", "--modules-to-not-convert", "mlp"]],
  ["llama2xs", ["--group-size", "64"]],
])("%s, quantized", (name, flags) => {
  it("has the same perplexity", async () => {
    const out = path.join(temporaryFolder(), name);
    const text = path.join(SHARED, "text/GrimmsFairyTales.txt");
    const { code, stderr } = await runOctavo([
      ...["quantize", path.join(SHARED, "models", name), "--out", out],
      ...["--calib", text, "--calib-tokens", "2048", ...flags],
    ]);
    expect(stderr + String(code)).toMatch(/0$/);
    const tokenizer = await loadTokenizer(out);
    const ids = await tokenizer.encode(
      readFileSync(text, "utf8").slice(100_000, 116_000),
      { addSpecialTokens: false },
    );
    const perplexity = { f32: 0, int8: 0 };
    for (const kind of KINDS)
      perplexity[kind] = await perplexityOf(out, ids, kind);
    expectSame(name, perplexity);
  });
});
