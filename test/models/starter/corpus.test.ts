import { describe, expect, test } from "vitest";
import {
  addition,
  isHeldOutPair,
  subtraction,
} from "../../../models/starter/corpus/arithmetic.js";
import { byteLetters, trainBpe } from "../../../models/starter/corpus/bpe.js";
import {
  repeating,
  reversing,
} from "../../../models/starter/corpus/copying.js";
import { Voice } from "../../../models/starter/corpus/dialogue.js";
import { extraction } from "../../../models/starter/corpus/extraction.js";
import { dialogue } from "../../../models/starter/corpus/mixture.js";
import { FAMILIES } from "../../../models/starter/corpus/tool-families.js";
import { named, toolUse } from "../../../models/starter/corpus/tools.js";

const many = <T>(
  make: (voice: Voice) => T,
  heldout: boolean,
  count = 3000,
): T[] => {
  const voice = new Voice(1, heldout);
  return Array.from({ length: count }, () => make(voice));
};

describe("the starter's corpus", () => {
  test("is a function of the seed", () => {
    const draw = (seed: number) => {
      const voice = new Voice(seed, false);
      return Array.from({ length: 50 }, () => dialogue(voice, 3));
    };
    expect(draw(3)).toEqual(draw(3));
    expect(draw(3)).not.toEqual(draw(4));
  });

  test("says true sums", () => {
    for (const make of [addition, subtraction])
      for (const [, answer] of many(make, false)) {
        const match = /^(\d+) ([+-]) (\d+) = (-?\d+)\.$/.exec(
          answer?.content ?? "",
        );
        const [, a, operator, b, result] = match ?? [];
        const sign = operator === "+" ? 1 : -1;
        expect(Number(a) + sign * Number(b)).toBe(Number(result));
      }
  });

  test("keeps one pair of numbers in ten, and whole phrasings, for the eval", () => {
    const pairs = Array.from({ length: 10_000 }, (_, i) =>
      isHeldOutPair(Math.floor(i / 100), i % 100),
    );
    expect(pairs.filter(Boolean).length).toBeGreaterThan(800);
    expect(pairs.filter(Boolean).length).toBeLessThan(1200);
    for (const make of [
      addition,
      subtraction,
      extraction,
      repeating,
      reversing,
    ]) {
      const trained = new Set(
        many(make, false).map(([question]) => question?.content),
      );
      const asked = many(make, true, 300).map(
        ([question]) => question?.content,
      );
      expect(asked.filter((question) => trained.has(question))).toEqual([]);
    }
  });

  test("extracts what the sentence says, as JSON", () => {
    for (const [question, answer] of many(extraction, true, 500)) {
      const values = Object.values(JSON.parse(answer?.content ?? "") as object);
      for (const value of values)
        expect(question?.content).toContain(String(value));
    }
  });

  test("calls tools by the names that the conversation gives them", () => {
    const voice = new Voice(5, true);
    for (const family of FAMILIES) {
      const tool = named(voice, family);
      const [, call] = toolUse(voice, [tool]);
      const { name, arguments: given } = call?.tool_calls?.[0]?.function ?? {};
      expect(name).toBe(tool.tool.function.name);
      expect(Object.keys(given ?? {})).toEqual(
        tool.tool.function.parameters.required,
      );
    }
  });
});

describe("trainBpe", () => {
  test("covers every byte and merges the most frequent pair first", () => {
    const bpe = trainBpe(["low low low lower"], 258);
    expect(bpe.pieces.slice(0, 256)).toEqual(byteLetters());
    expect(bpe.merges).toEqual([
      ["l", "o"],
      ["lo", "w"],
    ]);
    expect(new Set(byteLetters()).size).toBe(256);
  });

  test("keeps digits apart", () => {
    const bpe = trainBpe(["2020 2020 2020 2020"], 300);
    expect(bpe.merges).toEqual([]);
  });
});
