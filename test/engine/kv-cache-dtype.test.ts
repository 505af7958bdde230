/** What --kv-cache-dtype auto means: see docs/decisions/0031. */
import { mkdtempSync, readFileSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { describe, expect, it } from "vitest";
import { ENGINE_DEFAULTS, type EngineConfig } from "../../src/core/config.js";
import { planEngine } from "../../src/engine/plan-engine.js";
import { prepareModel } from "../../src/engine/prepare-model.js";

const STARTER = path.join(import.meta.dirname, "../../models/starter");

/** The starter's shape, declared as another type. */
function declared(dtype: string): string {
  const directory = mkdtempSync(path.join(tmpdir(), "octavo-kv-type-"));
  const file = path.join(directory, "config.json");
  const config = JSON.parse(
    readFileSync(path.join(STARTER, "config.json"), "utf8"),
  ) as object;
  writeFileSync(file, JSON.stringify({ ...config, torch_dtype: dtype }));
  return directory;
}

async function kvTypeOf(
  dtype: string,
  options: Partial<EngineConfig> = {},
): Promise<string> {
  const config: EngineConfig = {
    ...ENGINE_DEFAULTS,
    model: declared(dtype),
    loadFormat: "dummy",
    device: "cpu",
    ...options,
  };
  const model = await prepareModel(config);
  return planEngine(config, model, null).info.kvCacheDtype;
}

describe("the type of KV pages", () => {
  it("is the model's precision on the processor", async () => {
    expect(await kvTypeOf("float16")).toBe("f16");
    expect(await kvTypeOf("bfloat16")).toBe("f16");
    expect(await kvTypeOf("float32")).toBe("f32");
    expect(await kvTypeOf("float16", { device: "reference" })).toBe("f32");
  });

  it("is what the operator says", async () => {
    const f32 = { kvCacheDtype: "float32" } as const;
    expect(await kvTypeOf("float16", f32)).toBe("f32");
    expect(await kvTypeOf("float32", { kvCacheDtype: "f16" })).toBe("f16");
    expect(await kvTypeOf("float32", { kvCacheDtype: "int8" })).toBe("int8");
  });
});
