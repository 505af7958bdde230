import { expect, it } from "vitest";
import { pageLine, planTable } from "../../src/cli/serve-report.js";
import type { DraftInfo, EngineInfo } from "../../src/engine/messages.js";

const DRAFT: DraftInfo = {
  model: "small",
  architecture: "LlamaForCausalLM",
  quantization: "none (f16)",
  maxModelLen: 512,
  numBlocks: 64,
  weightBytes: 2 ** 20,
  kvBytesPerBlock: 2 ** 10,
  workspaceBytes: 2 ** 21,
  linearKernels: null,
};

const INFO: EngineInfo = {
  architecture: "LlamaForCausalLM",
  device: "cuda",
  deviceDescription: "a GPU",
  isa: "sm_90",
  threads: 1,
  quantization: "awq-int4",
  vocabSize: 100,
  maxModelLen: 1024,
  numBlocks: 64,
  blockSize: 16,
  kvCacheDtype: "f16",
  maxNumSeqs: 8,
  maxNumSamples: 32,
  maxNumBatchedTokens: 256,
  speculation: { method: "draft_model", numSpeculativeTokens: 3 },
  weightBytes: 2 ** 24,
  kvBytesPerBlock: 2 ** 12,
  workspaceBytes: 2 ** 22,
  linearKernels: "tiles of 4 shapes to be measured at the start",
  availableMemory: 2 ** 30,
  eosTokenIds: [2],
  bosTokenId: 1,
  generationDefaults: {},
  draft: DRAFT,
};

const rowOf = (name: string, info: EngineInfo): string =>
  planTable("large", info)
    .split("\n")
    .find((line) => line.trim().startsWith(name)) ?? "";

it("says of the draft model what it takes, and where its tiles come from", () => {
  expect(rowOf("Draft", INFO)).toMatch(
    /small .*1\.0 MiB of weights, .* of KV cache \(f16\), .* of workspace, 512 tokens$/,
  );
  const tiles = "tiles of 3 shapes from tiles.json";
  const draft = { ...DRAFT, linearKernels: tiles };
  expect(rowOf("Draft", { ...INFO, draft })).toMatch(
    /512 tokens; tiles of 3 shapes from tiles\.json$/,
  );
  expect(rowOf("Linears", INFO)).toContain("tiles of 4 shapes to be measured");
  expect(rowOf("Draft", { ...INFO, draft: null })).toBe("");
});

it.each([
  ["http://127.0.0.1:8000", "http://127.0.0.1:8000/"],
  ["https://0.0.0.0:8000", "https://localhost:8000/"],
  ["http://[::]:8000", "http://localhost:8000/"],
  ["http://[::1]:8000", "http://[::1]:8000/"],
])("says where the page of %s is", (address, url) => {
  expect(pageLine(address)).toBe(`Or open ${url} in a browser.`);
});
