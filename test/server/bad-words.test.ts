import { expect, it } from "vitest";
import { loadTokenizer } from "../../src/text/tokenizer.js";
import { says, ScriptedEngine, serve } from "./support.js";

it("bans a word in both of its spellings, however many tokens they have", async () => {
  const tokenizer = await loadTokenizer("models/starter");
  const encode = async (text: string): Promise<number[]> =>
    Array.from(await tokenizer.encode(text, { addSpecialTokens: false }));
  const [inside, after] = [await encode("there"), await encode(" there")];
  expect(inside.length).toBeGreaterThan(after.length);
  const engine = new ScriptedEngine(says("x"));
  const { post } = await serve(engine, {
    tokenizer,
    info: { vocabSize: 1536, eosTokenIds: [0] },
  });
  for (const word of ["there", " there"])
    await post("/v1/completions", { prompt: "a", bad_words: [word] });
  for (const { params } of engine.requests)
    expect(params.badWordsTokenIds).toEqual([inside, after]);
});
