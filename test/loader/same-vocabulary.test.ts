import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterEach, describe, expect, it } from "vitest";
import { checkSameVocabulary } from "../../src/loader/same-vocabulary.js";

const made: string[] = [];
afterEach(() => {
  for (const directory of made.splice(0))
    rmSync(directory, { recursive: true });
});

/** A model directory whose tokenizer.json holds this; none: it has no such file. */
function directory(tokenizer?: unknown): string {
  const name = mkdtempSync(path.join(tmpdir(), "octavo-vocabulary-"));
  made.push(name);
  if (tokenizer !== undefined)
    writeFileSync(path.join(name, "tokenizer.json"), JSON.stringify(tokenizer));
  return name;
}

const BPE = {
  model: { type: "BPE", vocab: { a: 0, b: 1, ab: 2 } },
  added_tokens: [{ id: 3, content: "<s>" }],
};
const check = (target: unknown, draft: unknown) => () =>
  checkSameVocabulary(directory(target), directory(draft), "config.model");

describe("the vocabulary of a draft model", () => {
  it("is the target's, whatever else its tokenizer says", () => {
    expect(check(BPE, BPE)).not.toThrow();
    expect(check(BPE, { ...BPE, truncation: null })).not.toThrow();
    const unigram = [
      ["a", 0],
      ["b", -1],
      ["ab", -2],
      ["<s>", 0],
    ];
    expect(check(BPE, { model: { vocab: unigram } })).not.toThrow();
    expect(check(undefined, undefined)).not.toThrow();
  });

  it.each([
    [
      { ...BPE, model: { vocab: { a: 0, c: 1, ab: 2 } } },
      /of which 1 is "b"; .* is "c"$/,
    ],
    [{ ...BPE, added_tokens: [] }, /of which 3 is "<s>"; .* is none$/],
    [
      { ...BPE, added_tokens: [...BPE.added_tokens, { id: 4, content: "x" }] },
      /of which 4 is none; .* is "x"$/,
    ],
    [undefined, /only one of the two models has a tokenizer.json/],
  ])("%j is refused", (draft, message) => {
    expect(check(BPE, draft)).toThrow(message);
    expect(check(BPE, draft)).toThrow(/^config\.model: /);
  });

  it.each([
    { model: {} },
    { model: { vocab: { a: -1 } } },
    { model: { vocab: { a: 1e9 } } },
    { model: { vocab: [7] } },
    { model: { vocab: { a: 0 } }, added_tokens: [{ id: "0", content: "a" }] },
  ])("%j is no tokenizer", (draft) => {
    expect(check(BPE, draft)).toThrow(/tokenizer\.json: expected/);
  });
});
