import {
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import os from "node:os";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { writeCheckpointPair } from "../../bench/peers/checkpoint-pair.js";
import type { CheckpointPair } from "../../bench/peers/checkpoint-pair.js";
import type { PeerResult } from "../../bench/peers/compare.js";
import { readSafetensorsHeader } from "../../src/loader/safetensors.js";
import { runOctavo } from "../e2e/server-process.js";

const scratch = mkdtempSync(path.join(os.tmpdir(), "octavo-peers-test-"));
afterAll(() => rmSync(scratch, { recursive: true }));

const SHAPE = {
  name: "tiny",
  hiddenSize: 256,
  intermediateSize: 384,
  numLayers: 2,
  numHeads: 4,
  numKvHeads: 2,
  headDim: 64,
  vocabSize: 320,
};
const HIDDEN = SHAPE.hiddenSize;

describe("a pair of checkpoints", () => {
  let pair: CheckpointPair;
  let gguf: Map<string, { dimensions: number[]; type: number; data: DataView }>;
  beforeAll(() => {
    pair = writeCheckpointPair(
      SHAPE,
      7,
      path.join(scratch, "pair"),
      () => undefined,
    );
    gguf = readGguf(pair.gguf);
  });

  it.each([
    ["self_attn.q_proj", "attn_q", HIDDEN, HIDDEN, 4],
    ["self_attn.k_proj", "attn_k", HIDDEN, HIDDEN / 2, 2],
    ["self_attn.v_proj", "attn_v", HIDDEN, HIDDEN / 2, 0],
    ["mlp.down_proj", "ffn_down", SHAPE.intermediateSize, HIDDEN, 0],
  ])("holds the same %s twice", (name, ggufName, inputs, outputs, heads) => {
    const awq = readAwq(pair.awq, `model.layers.1.${name}`, inputs, outputs);
    const tensor = gguf.get(`blk.1.${ggufName}.weight`);
    expect(tensor?.dimensions).toEqual([inputs, outputs]);
    expect(tensor?.type).toBe(2);
    const q4 = readQ4(tensor?.data, inputs, outputs);
    let nonzero = 0;
    for (let head = 0; head < Math.max(1, heads); head++) {
      const size = outputs / Math.max(1, heads);
      for (let row = 0; row < size; row++) {
        // Neighbours in GGUF are what half a head apart is in the other layout.
        const other =
          heads === 0
            ? row
            : row < size / 2
              ? 2 * row
              : 2 * (row - size / 2) + 1;
        const ours = awq
          .subarray((head * size + row) * inputs)
          .subarray(0, inputs);
        expect(ours).toEqual(
          q4.subarray((head * size + other) * inputs).subarray(0, inputs),
        );
        nonzero += ours.filter((value) => value !== 0).length;
      }
    }
    expect(nonzero).toBeGreaterThan(0.9 * inputs * outputs);
  });

  it("is the same for the same seed, and another for another", () => {
    const write = (name: string, seed: number): Buffer =>
      readFileSync(
        writeCheckpointPair(
          SHAPE,
          seed,
          path.join(scratch, name),
          () => undefined,
        ).gguf,
      );
    const first = readFileSync(pair.gguf);
    expect(write("again", 7).equals(first)).toBe(true);
    expect(write("other", 8).equals(first)).toBe(false);
  });
});

/** Answers as node-llama-cpp does, with the token after the last one. */
const FAKE_PEER = `
export async function getLlama() {
  const sequence = () => ({
    async clearHistory() {},
    async *evaluate(tokens) {
      for (let token = tokens.at(-1); ; ) yield (token = (token + 1) % 320);
    },
  });
  const createContext = async ({ sequences }) => {
    let left = sequences;
    return { getSequence() { if (left-- === 0) throw new Error("no sequence left"); return sequence(); } };
  };
  return { loadModel: async () => ({ createContext }) };
}
`;

describe("octavo bench peers", () => {
  const model = path.join(scratch, "shape");
  const fake = path.join(scratch, "node-llama-cpp");
  beforeAll(() => {
    mkdirSync(model);
    writeFileSync(
      path.join(model, "config.json"),
      JSON.stringify({
        architectures: ["LlamaForCausalLM"],
        model_type: "llama",
        hidden_size: HIDDEN,
        intermediate_size: SHAPE.intermediateSize,
        num_hidden_layers: 1,
        num_attention_heads: 4,
        num_key_value_heads: 2,
        vocab_size: SHAPE.vocabSize,
        max_position_embeddings: 1024,
        rms_norm_eps: 1e-5,
      }),
    );
    mkdirSync(path.join(fake, "dist"), { recursive: true });
    writeFileSync(
      path.join(fake, "package.json"),
      JSON.stringify({ version: "9.9.9", type: "module" }),
    );
    writeFileSync(path.join(fake, "dist", "index.js"), FAKE_PEER);
  });

  it("runs both engines in turn on every workload", async () => {
    const file = path.join(scratch, "peers.json");
    const { code, stdout, stderr } = await runOctavo([
      ...["bench", "peers", "--model", model, "--threads", "1"],
      ...["--num-iters", "2", "--peer-package", fake, "--output-json", file],
    ]);
    expect(code, stderr).toBe(0);
    expect(stdout).toContain("node-llama-cpp 9.9.9 on");
    const result = JSON.parse(readFileSync(file, "utf8")) as PeerResult;
    expect(result.results.map(({ workload }) => workload)).toEqual([
      "prefill-512",
      "decode-128-at-512",
      "streams-8",
      "streams-16",
    ]);
    for (const run of result.results) {
      expect(run.octavoRuns).toHaveLength(2);
      expect(run.peerRuns).toHaveLength(2);
      expect(run.ratio).toBeCloseTo(run.octavo / run.peer, 10);
      // The other one counts up: it is not the same model, and the comparison says so.
      expect(run.equalTokens).toBeLessThan(run.tokens);
    }
    expect(result.results.map(({ tokens }) => tokens)).toEqual([
      1, 129, 512, 1024,
    ]);
    expect(result.residentBytes.octavo).toBeGreaterThan(0);
  });

  it("says what is wrong with a workload's name, and with a peer that does not start", async () => {
    const typo = await runOctavo(["bench", "peers", "--workloads", "prefill"]);
    expect(typo.code).toBe(1);
    expect(typo.stderr).toContain(
      '--workloads: expected some of prefill-512, decode-128-at-512, streams-8, streams-16, got "prefill"',
    );
    const missing = await runOctavo([
      ...["bench", "peers", "--model", model, "--threads", "1"],
      ...["--peer-package", path.join(scratch, "nowhere")],
    ]);
    expect(missing.code).toBe(1);
    expect(missing.stderr).toContain("nowhere/package.json");
  });
});

/** weight[n][k] as numbers: (q - z) x scale. */
function readAwq(
  directory: string,
  name: string,
  inputs: number,
  outputs: number,
): Float32Array {
  const file = path.join(directory, "model.safetensors");
  const bytes = readFileSync(file);
  const { tensors } = readSafetensorsHeader(file, name);
  const view = (tensor: string): DataView => {
    const entry = tensors.find((one) => one.name === `${name}.${tensor}`);
    if (!entry) throw new Error(`no ${name}.${tensor}`);
    return new DataView(bytes.buffer, bytes.byteOffset + entry.offset);
  };
  const [qweight, qzeros, scales] = [
    view("qweight"),
    view("qzeros"),
    view("scales"),
  ];
  const shift = [0, 16, 4, 20, 8, 24, 12, 28];
  const out = new Float32Array(inputs * outputs);
  for (let k = 0; k < inputs; k++)
    for (let n = 0; n < outputs; n++) {
      const word = k * (outputs / 8) + (n >> 3);
      const group = Math.floor(k / 128);
      const zero = group * (outputs / 8) + (n >> 3);
      const nibble = (words: DataView, at: number): number =>
        (words.getUint32(4 * at, true) >>> (shift[n % 8] ?? 0)) & 15;
      out[n * inputs + k] =
        (nibble(qweight, word) - nibble(qzeros, zero)) *
        half(scales.getUint16(2 * (group * outputs + n), true));
    }
  return out;
}

function readQ4(
  data: DataView | undefined,
  inputs: number,
  outputs: number,
): Float32Array {
  if (!data) throw new Error("no such tensor");
  const out = new Float32Array(inputs * outputs);
  for (let i = 0; i < out.length; i++) {
    const block = 18 * Math.floor(i / 32);
    const byte = data.getUint8(block + 2 + (i % 16));
    const q = i % 32 < 16 ? byte & 15 : byte >> 4;
    out[i] = (q - 8) * half(data.getUint16(block, true));
  }
  return out;
}

/** A normal f16. */
function half(bits: number): number {
  return 2 ** (((bits >> 10) & 31) - 15) * (1 + (bits & 1023) / 1024);
}

/** Tensors of a GGUF file by name. */
function readGguf(file: string) {
  const bytes = readFileSync(file);
  let at = 24;
  const u32 = (): number => bytes.readUInt32LE((at += 4) - 4);
  const u64 = (): number => Number(bytes.readBigUInt64LE((at += 8) - 8));
  const text = (): string => {
    const length = u64();
    return bytes.toString("utf8", at, (at += length));
  };
  const value = (type: number): void => {
    if (type === 8) text();
    else if (type === 9) {
      const element = u32();
      for (let left = u64(); left > 0; left--) value(element);
    } else u32();
  };
  expect(bytes.toString("latin1", 0, 4)).toBe("GGUF");
  const numTensors = Number(bytes.readBigUInt64LE(8));
  for (let left = Number(bytes.readBigUInt64LE(16)); left > 0; left--) {
    text();
    value(u32());
  }
  const found = Array.from({ length: numTensors }, () => {
    const name = text();
    const dimensions = Array.from({ length: u32() }, u64);
    return { name, dimensions, type: u32(), offset: u64() };
  });
  const start = Math.ceil(at / 32) * 32;
  return new Map(
    found.map(({ name, dimensions, type, offset }) => [
      name,
      {
        dimensions,
        type,
        data: new DataView(bytes.buffer, bytes.byteOffset + start + offset),
      },
    ]),
  );
}
