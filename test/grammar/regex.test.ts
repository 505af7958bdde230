import { describe, expect, it } from "vitest";
import { buildEbnf } from "../../src/grammar/spec.js";
import type { GrammarSpec } from "../../src/grammar/spec.js";
import { randomFrom, useChecker } from "./support.js";

const checker = useChecker();

function spec(pattern: string): GrammarSpec {
  return { kind: "regex", pattern, param: "regex" };
}

describe("a regular expression", () => {
  it.each([
    "a|ab|abc",
    "(a|ab)(c|bcd)*d?",
    "[0-9]|[1-9][0-9]|([0-9]|[1-9][0-9])\\.",
    "^-?\\d{1,3}(,\\d{3})*(\\.\\d+)?$",
    "[^\\w\\s]{2,4}",
    "\\s+\\S?",
    "[é-ü€]+[^a-z]",
    "(?:\\u{1F600}|\\ud83d\\ude01|\\x41){1,2}?",
    "(?<year>\\d{4})-[\\]\\-^]",
    "[a-c]*[b-d]*b",
    "a{0}b{2,}",
    "(\\d+)?x(a{2}){2,3}",
    "((((a*)*)+)?)*b",
    "((a|b*){0,2})+c",
    "^(?!-)(?!.*--)[a-c-]{1,9}$",
    "(?=.*\\d)(?=.*[A-F])[0-9A-Z]{2,8}",
    "(?!true$|false)[a-z]{4,6}",
    ".{3}",
  ])("lets through what JavaScript's does: %s", async (pattern) => {
    const texts = await checker().drawn(spec(pattern), 60, randomFrom(7));
    expect(texts.length).toBeGreaterThan(10);
    const whole = new RegExp(`^(?:${pattern})$`, "u");
    for (const text of texts) expect(text).toMatch(whole);
  });

  it("lets through every text that it should", async () => {
    const texts = ["a", "ab", "abc", "ac", "abcd", "acd", "abd", "b", ""];
    const pattern = "(a|ab)(c|bcd)*d?";
    const whole = new RegExp(`^(?:${pattern})$`, "u");
    expect(await checker().accepted(spec(pattern), texts)).toEqual(
      texts.filter((text) => whole.test(text)),
    );
  });

  it("takes what Python writes", async () => {
    const texts = ["2024-1", "-1", "2024-"];
    const pattern = "\\A(?P<year>\\d{4})-(?P<n>\\d)\\Z";
    expect(await checker().accepted(spec(pattern), texts)).toEqual(["2024-1"]);
  });

  it.each(["\\ud83d", "[\\udc00]", "\\x01"])(
    "is refused where no text can match: %s",
    (pattern) => {
      expect(() => buildEbnf(spec(pattern), (text) => text)).toThrow(
        /no output can satisfy/,
      );
    },
  );

  it.each([
    ["a(?!b)", /lookahead is built only at the beginning/],
    ["(?!a)b|c", /lookahead beside \| is not built/],
    ["b|(?!a)c", /lookahead is built only at the beginning/],
    ["(?!a", /a group is not closed/],
    ["(?=a$)(?!a)a", /no output can satisfy it/],
    ["(?<=a)b", /lookbehind is not built/],
    ["(a)\\1", /back references are not built/],
    ["\\bword", /word boundaries/],
    ["\\p{L}", /Unicode properties/],
    ["a^b", /\^ is built only at the beginning/],
    ["(a$)b", /\$ is built only at the end/],
    ["(a", /not closed/],
    ["a)", /unexpected \)/],
    ["[a", /ends too early/],
    ["[z-a]", /out of order/],
    ["a{3,2}", /out of order/],
    ["a{,2}", /write \{0,n\}/],
    ["(a\\Z)b", /\\Z is built only at the end/],
    ["a\\A", /\\A is not known/],
    ["*a", /nothing to repeat/],
    ["a{20000}", /repetitions above/],
    ["\\q", /\\q is not known/],
    ["(".repeat(300), /nest deeper/],
  ])("is refused where it can't be followed: %s", (pattern, message) => {
    expect(() => buildEbnf(spec(pattern), (text) => text)).toThrow(message);
  });
});
