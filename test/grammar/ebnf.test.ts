import { describe, expect, it } from "vitest";
import { buildEbnf } from "../../src/grammar/spec.js";
import type { GrammarSpec } from "../../src/grammar/spec.js";
import { randomFrom, useChecker } from "./support.js";

const checker = useChecker();

function spec(grammar: string): GrammarSpec {
  return { kind: "ebnf", grammar, param: "grammar" };
}

/** Every text of up to `length` letters. */
function words(letters: string, length: number): string[] {
  const longest = length === 0 ? [""] : words(letters, length - 1);
  const last = longest.filter((word) => word.length === length - 1);
  return [
    ...longest,
    ...last.flatMap((word) => [...letters].map((letter) => word + letter)),
  ].filter((word, i, all) => all.indexOf(word) === i);
}

describe("a grammar in EBNF", () => {
  it.each<[grammar: string, yes: string[], no: string[]]>([
    [
      'root ::= "[" (item ("," item)*)? "]" # a list\nitem ::= [0-9]+ | "\\"" [^"\\n]{1,3} "\\""\n',
      ["[]", "[1]", '[12,"a\'é"]'],
      ["[", "[,]", '[""]', '["abcd"]'],
    ],
    // XGrammar itself takes only the lowest byte of these.
    ["root ::= [日本-本]+", ["日本", "本"], ["日月", ",", ""]],
    ["root ::= [^a-zé]", ["è", "日", "A", "😀"], ["é", "q", ""]],
    // XGrammar itself takes "01" for a match.
    [
      'root ::= [0-9] | [1-9] [0-9] | ([0-9] | [1-9] [0-9]) "."',
      ["0", "10", "10.", "0."],
      ["01", "01."],
    ],
    [
      'root ::=\n  "a" |\n  b-rule\n\nb-rule ::= "\\x41\\u00e9\\U0001F600\\t" . .?\n',
      ["a", "Aé😀\tx", "Aé😀\t日\n"],
      ["b", "Aé😀\t"],
    ],
    ['root ::= root "a" | "b"', ["b", "baa"], ["a", ""]],
    [
      'root ::= ("a"{2} | "b"){,2} [\\]\\-x-]',
      ["]", "aa-", "bbx"],
      ["a]", "bbb]"],
    ],
    [
      'root ::= list\nlist ::= "" | "(" list ")" list',
      ["", "(())()"],
      ["(", ")("],
    ],
  ])("%s", async (grammar, yes, no) => {
    const found = await checker().accepted(spec(grammar), [...yes, ...no]);
    expect(found).toEqual(yes);
  });

  it.each<[grammar: string, message: RegExp]>([
    ['root ::= "a" item', /line 1, column 14: the rule "item" is not defined/],
    ['start ::= "a"', /no rule "root"/],
    ['root ::= "a"\nroot ::= "b"', /line 2, column 1: .*defined twice/],
    ['start: "a"', /line 1, column 1: expected a definition/],
    ['root ::= ("a"', /column 10: a group is not closed/],
    ['root ::= "a)', /column 10: a string is not closed/],
    ["root ::= [a", /a class is not closed/],
    ["root ::= [z-a]", /out of order/],
    ['root ::= "a"{3,1}', /out of order/],
    ['root ::= "a"{}', /expected \{n\}/],
    ['root ::= "a"{20000}', /repetitions above/],
    ['root ::= "\\q"', /\\q is not known/],
    ['root ::= "\\ud800"', /no text holds this/],
    ['root ::= "\\x4"', /expected 2 hexadecimal digits/],
    ['root ::= "a" )', /unexpected "\)"/],
    ["root ::= 'a'", /unexpected "'"/],
    ['root ::= (="a") "b"', /lookahead/],
    ['root ::= TagDispatch(("a", b))', /unexpected ","/],
    [`root ::= ${"(".repeat(300)}`, /nest deeper/],
    ['root ::= "a" root', /no output can satisfy it/],
    ["root ::= [\\x01]", /no output can satisfy it/],
  ])("is refused with its place: %s", (grammar, message) => {
    const build = (): unknown => buildEbnf(spec(grammar), (text) => text);
    expect(build).toThrow(message);
    expect(build).toThrow(expect.objectContaining({ param: "grammar" }));
  });

  it("may name each rule twice in the one before", () => {
    const rules = Array.from(
      { length: 60 },
      (_, i) => `r${i} ::= r${i + 1} | r${i + 1} "${i}"`,
    );
    const grammar = `root ::= r0\n${rules.join("\n")}\nr60 ::= "a"`;
    const ebnf = buildEbnf(spec(grammar), (text) => text);
    expect(ebnf.length).toBeLessThan(100 * rules.length);
  });

  it("can be a part", async () => {
    const parts: GrammarSpec[] = [
      spec('root ::= "a" b*\nb ::= "b"'),
      { kind: "text", text: "abc" },
    ];
    const texts = ["a", "abb", "abc", "abbc"];
    const found = await checker().accepted({ kind: "choice", parts }, texts);
    expect(found).toEqual(["a", "abb", "abc"]);
  });

  it("lets through the very texts that it describes", async () => {
    const random = randomFrom(5);
    const pick = <T>(list: readonly T[]): T =>
      list[Math.floor(random() * list.length)] as T;
    const texts = words("ab", 5);
    for (let i = 0; i < 120; i++) {
      const names = ["root", "x", "y"];
      const rules = Object.fromEntries(
        names.map((name) => [
          name,
          randomBody(random, pick, names.slice(1), 2),
        ]),
      );
      const grammar = names
        .map((name) => `${name} ::= ${spell(rules[name] as Body)}`)
        .join("\n");
      const yes = texts.filter((text) => derives(rules, text));
      if (yes.length === 0) continue;
      const found = await checker().accepted(spec(grammar), texts);
      expect(found, grammar).toEqual(yes);
    }
  });
});

type Body =
  | string
  | { name: string }
  | { all: Body[] }
  | { any: Body[] }
  | { many: Body; sign: "*" | "+" | "?" };

function randomBody(
  random: () => number,
  pick: <T>(list: readonly T[]) => T,
  names: readonly string[],
  depth: number,
): Body {
  const inner = (): Body => randomBody(random, pick, names, depth - 1);
  const kind = depth === 0 ? 0 : Math.floor(random() * 5);
  if (kind === 1) return { all: [inner(), inner()] };
  if (kind === 2) return { any: [inner(), inner(), inner()] };
  if (kind === 3) return { many: inner(), sign: pick(["*", "+", "?"]) };
  if (kind === 4 || random() < 0.3) return { name: pick(names) };
  return pick(["a", "b", "ab", "ba", ""]);
}

function spell(body: Body): string {
  if (typeof body === "string") return JSON.stringify(body);
  if ("name" in body) return body.name;
  if ("all" in body) return body.all.map(spell).join(" ");
  if ("any" in body) return `(${body.any.map(spell).join(" | ")})`;
  return `(${spell(body.many)})${body.sign}`;
}

/** Whether the rules derive the text: the ends that each part reaches from each place, until no more are found. */
function derives(rules: Record<string, Body>, text: string): boolean {
  const known = new Map<string, Set<number>>();
  let grew = true;
  const ends = (body: Body, from: number): ReadonlySet<number> => {
    if (typeof body === "string")
      return new Set(text.startsWith(body, from) ? [from + body.length] : []);
    if ("name" in body) return endsOf(body.name, from);
    if ("any" in body)
      return new Set(body.any.flatMap((part) => [...ends(part, from)]));
    if ("all" in body)
      return body.all.reduce<ReadonlySet<number>>(
        (places, part) =>
          new Set([...places].flatMap((place) => [...ends(part, place)])),
        new Set([from]),
      );
    const reached = new Set(body.sign === "+" ? [] : [from]);
    let edge: number[] = [from];
    for (let i = 0; edge.length > 0; i++) {
      const next = edge.flatMap((place) => [...ends(body.many, place)]);
      edge = next.filter((place) => !reached.has(place));
      for (const place of next) reached.add(place);
      if (body.sign === "?" && i === 0) break;
    }
    return reached;
  };
  const endsOf = (name: string, from: number): Set<number> => {
    const key = `${name}@${from}`;
    let found = known.get(key);
    if (found === undefined) {
      found = new Set();
      known.set(key, found);
      grew = true;
    }
    return found;
  };
  const root = endsOf("root", 0);
  while (grew) {
    grew = false;
    for (const [key, found] of [...known]) {
      const [name = "", from = "0"] = key.split("@");
      for (const end of ends(rules[name] ?? "", Number(from)))
        if (!found.has(end)) {
          found.add(end);
          grew = true;
        }
    }
  }
  return root.has(text.length);
}
