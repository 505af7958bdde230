import { readFileSync, statSync } from "node:fs";
import { join, resolve } from "node:path";
import { Tokenizer as Rust } from "tokenizers";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Voice } from "../../../models/starter/corpus/dialogue.js";
import { dialogue } from "../../../models/starter/corpus/mixture.js";
import { Session } from "../../../models/starter/eval/session.js";
import { TASKS } from "../../../models/starter/eval/tasks.js";
import { Float64Llama } from "./float64-llama.js";

const STARTER = resolve(import.meta.dirname, "../../../models/starter");
const DRAFT = join(STARTER, "draft");

describe.each([
  ["starter", STARTER, 20e6],
  ["draft", DRAFT, 2e6],
])("the committed %s", (_, directory, limit) => {
  let session: Session;

  beforeAll(async () => {
    session = await Session.open(directory);
  });
  afterAll(() => session.close());

  test("is small", () => {
    expect(statSync(join(directory, "model.safetensors")).size).toBeLessThan(
      limit,
    );
  });

  test("says in float64 what the engine says", async () => {
    const voice = new Voice(11, true);
    const answers = await session.answer(
      Array.from({ length: 3 }, () => dialogue(voice, 1)).map(
        ({ messages, tools }) => ({
          messages: messages.slice(0, -1),
          ...(tools && { tools }),
        }),
      ),
    );
    for (const { prompt, tokens } of answers) {
      const model = new Float64Llama(directory);
      let logits: Float64Array = new Float64Array();
      for (const token of prompt) logits = model.next(token);
      for (const token of tokens.slice(0, 40)) {
        const best = logits.reduce(
          (most, value, id) =>
            value > (logits[most] ?? -Infinity) ? id : most,
          0,
        );
        expect(token).toBe(best);
        logits = model.next(token);
      }
    }
  });
});

describe("the starter's tokenizer", () => {
  test("is the draft's", () => {
    const read = (directory: string): string =>
      readFileSync(join(directory, "tokenizer.json"), "utf8");
    expect(read(DRAFT)).toBe(read(STARTER));
  });

  test("covers every byte and keeps digits apart", async () => {
    const tokenizer = Rust.fromFile(join(STARTER, "tokenizer.json"));
    for (const text of [
      "naïve Straße 東京 🦊\u0000\t\r\n",
      "x = 2026;",
      "  two  spaces",
    ]) {
      const ids = (
        await tokenizer.encode(text, null, { addSpecialTokens: false })
      ).getIds();
      expect(await tokenizer.decode(ids, false)).toBe(text);
    }
    const digits = await tokenizer.encode("2026", null, {
      addSpecialTokens: false,
    });
    expect(digits.getTokens()).toEqual(["2", "0", "2", "6"]);
  });
});

/** The eval itself (`npm run eval:starter`) asks ten times as much; here a model that went bad is to be noticed. */
describe("the starter's answers on held-out questions", () => {
  let session: Session;
  beforeAll(async () => {
    session = await Session.open(STARTER);
  });
  afterAll(() => session.close());

  test.each(TASKS.filter((task) => task.target !== undefined))(
    "$name",
    async ({ make, target = 1 }) => {
      const voice = new Voice(77, true);
      const cases = Array.from({ length: 40 }, () => make(voice));
      const answers = await session.answer(cases.map((one) => one.dialogue));
      const right = answers.filter((answer, i) =>
        cases[i]?.right(answer.text),
      ).length;
      // Forty questions are few: three standard deviations below the target still pass.
      expect(right / 40).toBeGreaterThan(
        target - 3 * Math.sqrt((target * (1 - target)) / 40),
      );
    },
  );
});
