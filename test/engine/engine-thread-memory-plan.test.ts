import { describe, expect, it } from "vitest";
import { ENGINE_DEFAULTS } from "../../src/core/config.js";
import type { EngineConfig } from "../../src/core/config.js";
import { planMemory } from "../../src/engine/memory-plan.js";
import type {
  DeviceMemory,
  MemoryPlan,
  MemoryPlanInput,
} from "../../src/engine/memory-plan.js";

const GIB = 2 ** 30;

/** A model whose KV block is 16 tokens * 2 layers * 2 (K, V) * 8 heads * 64 * 4 bytes = 128 KiB. */
function plan(
  config: Partial<EngineConfig> = {},
  input: Partial<MemoryPlanInput> = {},
): MemoryPlan {
  return planMemory({
    config: { ...ENGINE_DEFAULTS, ...config },
    program: {
      vocabSize: 1000,
      tokenColumns: 1024,
      sampleColumns: 1024,
      ropes: [],
      kvLayers: [
        { numKvHeads: 8, headDim: 64 },
        { numKvHeads: 8, headDim: 64 },
      ],
    },
    maxPositionEmbeddings: 2048,
    kvCacheDtype: "f32",
    weightBytes: GIB,
    device: hostMemory(16 * GIB),
    ...input,
  });
}

function hostMemory(availableMemory: number): DeviceMemory {
  return {
    totalMemory: 2 * availableMemory,
    availableMemory,
    hostMemory: true,
    activationBytes: 4,
    pageHeadDim: (headDim) => headDim,
    scratchBytes: () => 0,
  };
}

describe("planMemory", () => {
  it("has room for every sequence at full length where that is little", () => {
    const { sizes, kvBytesPerBlock } = plan({ maxNumSeqs: 4 });
    expect(kvBytesPerBlock).toBe(128 * 1024);
    expect(sizes).toMatchObject({
      maxModelLen: 2048,
      maxBlocksPerSeq: 128,
      numBlocks: 4 * 128,
      maxNumSamples: 64,
      logitsRows: 64,
    });
  });

  it("takes at most 4 GiB, and half of what is left, by default", () => {
    const wide = { maxPositionEmbeddings: 2 ** 20 };
    const { sizes } = plan({ maxNumSeqs: 1 }, wide);
    expect(sizes.numBlocks).toBe((4 * GIB) / (128 * 1024));
    expect(sizes.maxModelLen).toBe(sizes.numBlocks * 16);
    const tight = plan(
      { maxNumSeqs: 1 },
      { ...wide, device: hostMemory(3 * GIB) },
    );
    const left = 0.9 * 3 * GIB - GIB;
    expect(tight.sizes.numBlocks * 128 * 1024).toBeLessThanOrEqual(left / 2);
    expect(tight.sizes.numBlocks * 128 * 1024).toBeGreaterThan(0.4 * left);
  });

  it("grows beyond the default for one sequence of an explicit length", () => {
    const { sizes } = plan(
      { maxModelLen: 2 ** 16, maxNumSeqs: 8 },
      { maxPositionEmbeddings: 2 ** 17 },
    );
    expect(sizes.maxModelLen).toBe(2 ** 16);
    expect(sizes.numBlocks).toBe(2 ** 12 * 8);
  });

  it("halves a block for f16", () => {
    const { kvBytesPerBlock } = plan({}, { kvCacheDtype: "f16" });
    expect(kvBytesPerBlock).toBe(64 * 1024);
  });

  it("quarters a block for int8, and adds a scale for each token and head", () => {
    const { kvBytesPerBlock } = plan({}, { kvCacheDtype: "int8" });
    const scales = 2 * 2 * 8 * 16 * 4;
    expect(kvBytesPerBlock).toBe(32 * 1024 + scales);
  });

  it("shortens the context to an override, unless its length was asked for", () => {
    expect(plan({ numGpuBlocksOverride: 10 }).sizes).toMatchObject({
      maxModelLen: 160,
      numBlocks: 10,
    });
    expect(() => plan({ numGpuBlocksOverride: 10, maxModelLen: 161 })).toThrow(
      expect.objectContaining({
        code: "invalid_config",
        message: expect.stringContaining("--num-gpu-blocks-override 11"),
      }),
    );
  });

  it("refuses more than the model's own limit", () => {
    expect(() => plan({ maxModelLen: 2049 })).toThrow(
      expect.objectContaining({
        code: "invalid_config",
        param: "max-model-len",
      }),
    );
  });

  it("names the length that fits when an explicit one does not, and it does fit", () => {
    const input = {
      maxPositionEmbeddings: 2 ** 20,
      device: hostMemory(2 * GIB),
    };
    let message = "";
    try {
      plan({ maxModelLen: 2 ** 19, maxNumSeqs: 1 }, input);
    } catch (error) {
      expect(error).toMatchObject({ code: "out_of_memory" });
      message = (error as Error).message;
    }
    const fits = Number(/Set --max-model-len (\d+)/.exec(message)?.[1]);
    expect(fits).toBeGreaterThan(1000);
    const { sizes } = plan({ maxModelLen: fits, maxNumSeqs: 1 }, input);
    expect(sizes.numBlocks).toBeGreaterThanOrEqual(fits / 16);
  });

  it("names the override that fits when one does not", () => {
    expect(() => plan({ numGpuBlocksOverride: 2 ** 20 })).toThrow(
      /Set --num-gpu-blocks-override \d+ or less/,
    );
  });

  it("says that the weights do not fit", () => {
    expect(() => plan({}, { weightBytes: 20 * GIB })).toThrow(
      expect.objectContaining({ code: "out_of_memory" }),
    );
  });
});

describe("a draft model", () => {
  // A KV block of 16 tokens * 1 layer * 2 * 4 heads * 64 * 4 bytes = 32 KiB.
  const draft = {
    program: {
      vocabSize: 1000,
      tokenColumns: 256,
      sampleColumns: 256,
      ropes: [],
      kvLayers: [{ numKvHeads: 4, headDim: 64 }],
    },
    maxModelLen: 512,
    weightBytes: GIB / 8,
    device: hostMemory(16 * GIB),
  };

  it("has as many blocks, and its own length", () => {
    const alone = plan({ maxNumSeqs: 4 });
    const both = plan({ maxNumSeqs: 4 }, { draft });
    expect(alone.draft).toBeNull();
    expect(both.sizes).toEqual(alone.sizes);
    expect(both.kvBytesPerBlock).toBe(128 * 1024);
    expect(both.draft).toMatchObject({
      kvBytesPerBlock: 32 * 1024,
      sizes: { numBlocks: 512, maxModelLen: 512, maxBlocksPerSeq: 32 },
    });
  });

  it("takes its weights, blocks and workspace from the same memory", () => {
    const gpu = { ...hostMemory(2 * GIB), hostMemory: false };
    const config = { maxNumSeqs: 512, gpuMemoryUtilization: 1 };
    const device = { ...gpu, totalMemory: 2 * GIB };
    const {
      sizes,
      workspaceBytes,
      draft: planned,
    } = plan(config, {
      device,
      draft: { ...draft, device },
    });
    expect(planned?.sizes.numBlocks).toBe(sizes.numBlocks);
    const rest =
      2 * GIB - GIB - GIB / 8 - workspaceBytes - (planned?.workspaceBytes ?? 0);
    expect(sizes.numBlocks).toBe(Math.floor(rest / (160 * 1024)));
  });

  it("counts where nothing fits", () => {
    const small = hostMemory(1.24 * GIB);
    expect(() => plan({}, { device: small })).not.toThrow();
    expect(() => plan({}, { device: small, draft })).toThrow(
      /The weights \(1152 MiB\).* leave no room/,
    );
  });
});
