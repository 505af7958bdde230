import path from "node:path";
import { describe, expect, it } from "vitest";
import { ENGINE_DEFAULTS } from "../../src/core/config.js";
import type { EngineConfig } from "../../src/core/config.js";
import { parseSpeculativeConfig } from "../../src/core/speculative-config.js";
import { prepareDraft } from "../../src/engine/draft-model.js";
import { withDraftDirectory } from "../../src/loader/locate-model.js";
import { locateModel } from "../../src/loader/locate-model.js";
import { hasShared, STORIES } from "../e2e/server-process.js";

const STARTER = path.join(import.meta.dirname, "../../models/starter");
const DRAFT = path.join(STARTER, "draft");

function configOf(speculation: object | null, model = STARTER): EngineConfig {
  const speculativeConfig = speculation && parseSpeculativeConfig(speculation);
  return { ...ENGINE_DEFAULTS, model, speculativeConfig };
}

const drafting = (fields: object = {}) => ({
  method: "draft_model",
  model: DRAFT,
  num_speculative_tokens: 3,
  ...fields,
});

describe("prepareDraft", () => {
  it("reads the model that drafts; none where another method does", async () => {
    expect(await prepareDraft(configOf(drafting()))).toMatchObject({
      directory: DRAFT,
      maxModelLen: 1024,
      vocabSize: 1536,
    });
    const short = configOf(drafting({ max_model_len: 100 }));
    expect(await prepareDraft(short)).toMatchObject({ maxModelLen: 100 });
    const ngram = { method: "ngram", num_speculative_tokens: 3 };
    expect(await prepareDraft(configOf(ngram))).toBeNull();
    expect(await prepareDraft(configOf(null))).toBeNull();
  });

  it.skipIf(!hasShared)(
    "refuses another vocabulary, and names the first token that differs (needs ../shared)",
    async () => {
      const other = configOf(drafting({ model: STORIES }));
      await expect(prepareDraft(other)).rejects.toMatchObject({
        code: "invalid_config",
        param: "speculative-config.model",
        message: expect.stringMatching(
          /expected the tokens of .*starter, of which \d+ is ".*"; that of .*stories260k is "/,
        ) as string,
      });
    },
  );

  it("says that it is the draft model which can't be read, or is too short", async () => {
    const missing = configOf(drafting({ model: "/nowhere" }));
    await expect(prepareDraft(missing)).rejects.toThrow(
      /^speculative-config\.model \(\/nowhere\): /,
    );
    const long = configOf(drafting({ max_model_len: 4096 }));
    await expect(prepareDraft(long)).rejects.toThrow(
      /max_model_len: expected at most 1024, .* got 4096/,
    );
  });
});

describe("withDraftDirectory", () => {
  it("puts a directory in place of a name, and names the field where there is none", async () => {
    const found = await withDraftDirectory(
      configOf(drafting({ model: path.relative(process.cwd(), DRAFT) })),
      locateModel,
    );
    expect(found.speculativeConfig).toMatchObject({ model: DRAFT });
    const missing = configOf(drafting({ model: "/nowhere" }));
    await expect(
      withDraftDirectory(missing, locateModel),
    ).rejects.toMatchObject({
      param: "speculative-config.model",
      message: expect.stringMatching(
        /^speculative-config\.model: No model directory at "\/nowhere"/,
      ) as string,
    });
  });
});
