/**
 * JSON as a grammar, and the same values as Python's literals: the parts that schemas are made of. White space is fixed:
 * `, ` and `: `, as Python's json.dumps.
 */
import {
  choice,
  named,
  NOTHING,
  oneOf,
  optional,
  repeat,
  Rule,
  sequence,
  text,
} from "./nodes.js";
import type { Node, Ranges } from "./nodes.js";
import { ANY, chars, includes, intersect, subtract } from "./ranges.js";

export const COMMA = text(", ");
export const COLON = text(": ");
export const QUOTE = text('"');

/** Characters that stand for themselves in a JSON string. */
export const PLAIN: Ranges = subtract(ANY, [
  [0, 0x1f],
  [0x22, 0x22],
  [0x5c, 0x5c],
]);

const SHORT_ESCAPES: readonly [codePoint: number, escape: string][] = [
  [0x22, '\\"'],
  [0x5c, "\\\\"],
  [0x08, "\\b"],
  [0x0c, "\\f"],
  [0x0a, "\\n"],
  [0x0d, "\\r"],
  [0x09, "\\t"],
];

/**
 * One character of the set as it is written in a JSON string. Control characters without a short escape are left out
 * where there is something else.
 */
export function jsonChar(set: Ranges): Node {
  const plain = intersect(set, PLAIN);
  const parts: Node[] = plain.length > 0 ? [oneOf(plain)] : [];
  for (const [codePoint, escape] of SHORT_ESCAPES)
    if (includes(set, codePoint)) parts.push(text(escape));
  if (parts.length > 0) return choice(parts);
  for (let code = 0; code < 0x20; code++)
    if (includes(set, code))
      parts.push(text(`\\u${code.toString(16).padStart(4, "0")}`));
  return parts.length > 0 ? choice(parts) : NOTHING;
}

const DIGIT: Ranges = [[0x30, 0x39]];
const HEX: Ranges = [
  [0x30, 0x39],
  [0x41, 0x46],
  [0x61, 0x66],
];

/** Surrogates are left out: two of them would make one character, or one of them none. */
const unicodeEscape = sequence(
  text("u"),
  choice([
    sequence(oneOf(subtract(HEX, chars("dD"))), repeat(oneOf(HEX), 3, 3)),
    sequence(
      oneOf(chars("dD")),
      oneOf([[0x30, 0x37]]),
      repeat(oneOf(HEX), 2, 2),
    ),
  ]),
);

/**
 * The rest of a string and its quote. In this form, with the quote in the same rule, a mask takes 30 us; as a repetition
 * 100 ms.
 * @param escaped single characters that may stand behind a backslash
 */
function stringRest(escaped: string): Node {
  const rule = new Rule();
  const rest: Node = { kind: "rule", rule };
  const escape = choice([oneOf(chars(escaped)), unicodeEscape]);
  rule.body = choice([
    text('"'),
    sequence(oneOf(PLAIN), rest),
    sequence(text("\\"), escape, rest),
  ]);
  return rest;
}

export function quoted(content: Node): Node {
  return sequence(QUOTE, content, QUOTE);
}

/** Digits are bounded: a double is exact to 15, and JSON.parse gives Infinity above 1e308. */
export const INTEGER: Node = named(
  sequence(
    optional(text("-")),
    choice([
      text("0"),
      sequence(oneOf([[0x31, 0x39]]), repeat(oneOf(DIGIT), 0, 14)),
    ]),
  ),
);

export const NUMBER: Node = named(
  sequence(
    INTEGER,
    optional(sequence(text("."), repeat(oneOf(DIGIT), 1, 15))),
    optional(
      sequence(
        oneOf([
          [0x45, 0x45],
          [0x65, 0x65],
        ]),
        optional(
          oneOf([
            [0x2b, 0x2b],
            [0x2d, 0x2d],
          ]),
        ),
        repeat(oneOf(DIGIT), 1, 2),
      ),
    ),
  ),
);

/** `open item, item, ... close` of any number of items. */
function listOf(open: string, item: Node, close: string): Node {
  return sequence(
    text(open),
    optional(sequence(item, repeat(sequence(COMMA, item), 0, Infinity))),
    text(close),
  );
}

interface Words {
  readonly true: string;
  readonly false: string;
  readonly null: string;
  /** Single characters that may stand behind a backslash in a string. */
  readonly escaped: string;
}

/** How values are written. */
export class Notation {
  readonly anyValue: Node;
  readonly anyArray: Node;
  readonly anyObject: Node;
  readonly boolean: Node;
  readonly null: Node;
  readonly string: Node;
  private readonly stringRest: Node;

  constructor(private readonly words: Words) {
    const rule = new Rule();
    this.anyValue = { kind: "rule", rule };
    this.boolean = choice([text(words.true), text(words.false)]);
    this.null = text(words.null);
    this.stringRest = stringRest(words.escaped);
    this.string = sequence(QUOTE, this.stringRest);
    const member = sequence(this.string, COLON, this.anyValue);
    this.anyArray = named(listOf("[", this.anyValue, "]"));
    this.anyObject = named(listOf("{", member, "}"));
    rule.body = choice([
      this.anyObject,
      this.anyArray,
      this.string,
      NUMBER,
      this.boolean,
      this.null,
    ]);
  }

  /** A string of bounded length. Each character costs states, so there are no escapes. */
  stringOf(minLength: number, maxLength: number): Node {
    if (maxLength < Infinity)
      return quoted(repeat(oneOf(PLAIN), minLength, maxLength));
    const first = repeat(oneOf(PLAIN), minLength, minLength);
    return sequence(QUOTE, first, this.stringRest);
  }

  /** The one spelling of a value. */
  literal(value: unknown): Node {
    return text(this.spell(value));
  }

  private spell(value: unknown): string {
    if (Array.isArray(value))
      return `[${value.map((entry) => this.spell(entry)).join(", ")}]`;
    if (typeof value === "object" && value !== null)
      return `{${Object.entries(value)
        .map(([key, entry]) => `${JSON.stringify(key)}: ${this.spell(entry)}`)
        .join(", ")}}`;
    if (typeof value === "boolean") return this.words[`${value}`];
    if (typeof value === "string" || typeof value === "number")
      return JSON.stringify(value);
    return this.words.null;
  }
}

export const JSON_NOTATION = new Notation({
  true: "true",
  false: "false",
  null: "null",
  escaped: '"\\/bfnrt',
});

/** Python's literals: in its strings `\/` is two characters. */
export const PYTHON_NOTATION = new Notation({
  true: "True",
  false: "False",
  null: "None",
  escaped: '"\\bfnrt',
});
