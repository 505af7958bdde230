/**
 * @huggingface/jinja with types, the clock in our hands, and closer to Python's Jinja in the places where published
 * templates met a difference (test/text/fixtures has the oracle).
 *
 * Its own declarations import each other without file extensions, which TypeScript does not resolve for ES modules,
 * so everything in them would be `any`: the few entry points that we use are declared here. Its `Template` class is
 * not used because it fixes the globals, and with them the clock.
 */
import * as library from "@huggingface/jinja";

/** A node of a syntax tree: `type` is the name of its class in the library. */
export interface JinjaNode {
  readonly type: string;
  readonly [field: string]: unknown;
}

/** A value at run time: `type` is the name of its class in the library (StringValue, NullValue, ...). */
interface JinjaValue {
  readonly type: string;
  readonly value: unknown;
}

interface JinjaEnvironment {
  /** Declares a global; plain values and functions are converted. */
  set(name: string, value: unknown): JinjaValue;
}

interface JinjaInterpreter {
  run(program: JinjaNode): JinjaValue;
  /** Every node of the tree is evaluated through this method. */
  evaluate(
    node: JinjaNode | undefined,
    environment: JinjaEnvironment,
  ): JinjaValue;
}

interface JinjaLibrary {
  readonly Environment: new () => JinjaEnvironment;
  readonly Interpreter: new (environment: JinjaEnvironment) => JinjaInterpreter;
  readonly tokenize: (
    source: string,
    options: { readonly lstrip_blocks: boolean; readonly trim_blocks: boolean },
  ) => unknown;
  readonly parse: (tokens: unknown) => JinjaNode;
}

const { Environment, Interpreter, tokenize, parse } =
  library as unknown as JinjaLibrary;

export function isNode(value: unknown): value is JinjaNode {
  return (
    typeof value === "object" &&
    value !== null &&
    "type" in value &&
    typeof value.type === "string"
  );
}

/** The name of an identifier, or null. */
export function identifier(value: unknown): string | null {
  return isNode(value) &&
    value.type === "Identifier" &&
    typeof value.value === "string"
    ? value.value
    : null;
}

/** Filters to which Jinja lets an undefined value be an empty string, or an empty list. */
const OF_TEXT = new Set([
  "trim",
  "upper",
  "lower",
  "title",
  "capitalize",
  "string",
  "replace",
]);
const OF_LIST = new Set([
  "list",
  "length",
  "sort",
  "join",
  "reverse",
  "unique",
]);
/** Filters to which Jinja lets any false value, none included, be an empty list. */
const OF_ITEMS = new Set(["selectattr", "rejectattr", "map"]);

const STRIPS = new Set(["strip", "lstrip", "rstrip"]);

/** Python's str.strip(chars) and its one-sided forms: takes off any of the characters, in any order. */
function stripCharacters(
  text: string,
  method: string,
  characters: string,
): string {
  const units = [...text];
  const set = new Set(characters);
  let start = 0;
  let end = units.length;
  if (method !== "rstrip")
    while (start < end && set.has(units[start] ?? "")) start++;
  if (method !== "lstrip")
    while (end > start && set.has(units[end - 1] ?? "")) end--;
  return units.slice(start, end).join("");
}

class PythonicInterpreter extends Interpreter {
  override evaluate(
    node: JinjaNode | undefined,
    environment: JinjaEnvironment,
  ): JinjaValue {
    switch (node?.type) {
      case "Evaluated":
        return node.value as JinjaValue;
      case "TupleLiteral": // the library's tuples can be neither unpacked nor printed
        return super.evaluate({ ...node, type: "ArrayLiteral" }, environment);
      case "FilterExpression":
        return this.filter(node, environment);
      case "CallExpression":
        return (
          this.strip(node, environment) ?? super.evaluate(node, environment)
        );
      default:
        return super.evaluate(node, environment);
    }
  }

  private filter(node: JinjaNode, environment: JinjaEnvironment): JinjaValue {
    const value = this.evaluate(node.operand as JinjaNode, environment);
    const filter = node.filter as JinjaNode;
    const name =
      identifier(filter.type === "CallExpression" ? filter.callee : filter) ??
      "";
    const isUndefined = value.type === "UndefinedValue";
    let operand: JinjaNode = { type: "Evaluated", value };
    if (isUndefined && OF_TEXT.has(name))
      operand = { type: "StringLiteral", value: "" };
    else if (
      (isUndefined && OF_LIST.has(name)) ||
      ((isUndefined || value.type === "NullValue") && OF_ITEMS.has(name))
    )
      operand = { type: "ArrayLiteral", value: [] };
    return super.evaluate({ ...node, operand }, environment);
  }

  /** `text.strip('\n')`: the library would take off all white space. Null where `node` is another call. */
  private strip(
    node: JinjaNode,
    environment: JinjaEnvironment,
  ): JinjaValue | null {
    const callee = node.callee;
    const args = node.args as readonly JinjaNode[];
    const [argument] = args;
    if (
      !isNode(callee) ||
      callee.type !== "MemberExpression" ||
      callee.computed === true
    )
      return null;
    const method = identifier(callee.property) ?? "";
    if (!STRIPS.has(method) || argument === undefined || args.length > 1)
      return null;
    const text = this.evaluate(callee.object as JinjaNode, environment);
    const characters = this.evaluate(argument, environment);
    if (typeof text.value !== "string" || typeof characters.value !== "string")
      throw new Error(
        `${method}: expected strings, got ${text.type} and ${characters.type}`,
      );
    const value = stripCharacters(text.value, method, characters.value);
    return super.evaluate({ type: "StringLiteral", value }, environment);
  }
}

/** Parses with the whitespace rules of transformers. Errors: whatever the library throws at bad syntax. */
export function parseTemplate(source: string): JinjaNode {
  return parse(tokenize(source, { lstrip_blocks: true, trim_blocks: true }));
}

/** Errors: whatever the library, or a function among the variables, throws. */
export function renderTemplate(
  program: JinjaNode,
  variables: { readonly [name: string]: unknown },
): string {
  const environment = new Environment();
  for (const [name, value] of Object.entries(variables))
    environment.set(name, value);
  return String(new PythonicInterpreter(environment).run(program).value);
}
