/** JSON as a grammar: the parts that schemas are made of. White space is fixed: `, ` and `: `, as Python's json.dumps. */
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
const QUOTE = text('"');

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

const escape = sequence(
  text("\\"),
  choice([
    oneOf(chars('"\\/bfnrt')),
    // Surrogates are left out: two of them would make one character, or one of them none.
    sequence(
      text("u"),
      choice([
        sequence(oneOf(subtract(HEX, chars("dD"))), repeat(oneOf(HEX), 3, 3)),
        sequence(
          oneOf(chars("dD")),
          oneOf([[0x30, 0x37]]),
          repeat(oneOf(HEX), 2, 2),
        ),
      ]),
    ),
  ]),
);

const stringRule = new Rule();
/** The rest of a string and its quote. In this form, with the quote in the same rule, a mask takes 30 us; as a repetition 100 ms. */
const stringRest: Node = { kind: "rule", rule: stringRule };
stringRule.body = choice([
  text('"'),
  sequence(oneOf(PLAIN), stringRest),
  sequence(escape, stringRest),
]);

export const STRING: Node = sequence(text('"'), stringRest);

/** The rest of a string without escapes. */
const plainRule = new Rule();
export const PLAIN_REST: Node = { kind: "rule", rule: plainRule };
plainRule.body = choice([text('"'), sequence(oneOf(PLAIN), PLAIN_REST)]);

/** A string of bounded length. Each character costs states, so there are no escapes. */
export function stringOf(minLength: number, maxLength: number): Node {
  if (maxLength === Infinity)
    return sequence(
      text('"'),
      repeat(oneOf(PLAIN), minLength, minLength),
      stringRest,
    );
  return quoted(repeat(oneOf(PLAIN), minLength, maxLength));
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

export const BOOLEAN: Node = choice([text("true"), text("false")]);
export const NULL: Node = text("null");

/** `open item, item, ... close` of any number of items. */
function listOf(open: string, item: Node, close: string): Node {
  return sequence(
    text(open),
    optional(sequence(item, repeat(sequence(COMMA, item), 0, Infinity))),
    text(close),
  );
}

const anyRule = new Rule();
/** Any JSON value. */
export const ANY_VALUE: Node = { kind: "rule", rule: anyRule };
export const ANY_ARRAY: Node = named(listOf("[", ANY_VALUE, "]"));
export const ANY_OBJECT: Node = named(
  listOf("{", sequence(STRING, COLON, ANY_VALUE), "}"),
);
anyRule.body = choice([ANY_OBJECT, ANY_ARRAY, STRING, NUMBER, BOOLEAN, NULL]);

/** The one spelling of a value. */
export function literal(value: unknown): Node {
  return text(spell(value));
}

function spell(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(spell).join(", ")}]`;
  if (typeof value === "object" && value !== null)
    return `{${Object.entries(value)
      .map(([key, entry]) => `${JSON.stringify(key)}: ${spell(entry)}`)
      .join(", ")}}`;
  return JSON.stringify(value) ?? "null";
}
