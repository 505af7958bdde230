/**
 * What a chat template expects of its messages, read from its syntax tree:
 *
 *  - content: a string (`{{ message.content }}`), or a list of parts that it loops over
 *    (`{% for part in message.content %}`), perhaps both (`{% if message.content is string %}`);
 *  - the arguments of tool calls: an object (`arguments | tojson`, `arguments.items()`), or the JSON text that
 *    OpenAI's clients send (`'...' + tool_call.function.arguments`).
 *
 * Names are followed through `set`, `for` and macro parameters, without regard to scopes: templates are short, and a
 * name that means a message in one place means one in the others.
 */
import { identifier, isNode, type JinjaNode } from "./jinja.js";

export interface TemplateExpectations {
  /** The template loops over the parts of a message's content. */
  readonly contentParts: boolean;
  /** The template looks whether a content is a string, so it takes one too. */
  readonly contentStringToo: boolean;
  /** The template asks what a content is (none, defined, string), so it can do without one. */
  readonly contentOptional: boolean;
  /** Arguments of tool calls are used as text only. */
  readonly argumentsAsText: boolean;
}

/** Every node of the tree, parents before children. */
function collect(value: unknown, into: JinjaNode[] = []): JinjaNode[] {
  if (isNode(value)) {
    into.push(value);
    for (const child of Object.values(value)) collect(child, into);
  } else if (Array.isArray(value)) {
    for (const item of value) collect(item, into);
  } else if (value instanceof Map) {
    for (const [key, item] of value) {
      collect(key, into);
      collect(item, into);
    }
  }
  return into;
}

/** Takes off filters, slices and `if` clauses: `messages[1:] | list` is still messages. */
function core(value: unknown): unknown {
  let node = value;
  while (isNode(node)) {
    if (node.type === "FilterExpression") node = node.operand;
    else if (node.type === "SelectExpression") node = node.lhs;
    else if (node.type === "MemberExpression" && isSlice(node.property))
      node = node.object;
    else break;
  }
  return node;
}

function isSlice(value: unknown): boolean {
  return isNode(value) && value.type === "SliceExpression";
}

/** The key of `x.key` and `x['key']`, or null. */
function memberKey(node: JinjaNode): string | null {
  if (node.computed !== true) return identifier(node.property);
  const property = node.property;
  return isNode(property) &&
    property.type === "StringLiteral" &&
    typeof property.value === "string"
    ? property.value
    : null;
}

class Analysis {
  private readonly nodes: readonly JinjaNode[];
  private readonly lists = new Set(["messages"]);
  private readonly items = new Set<string>();
  private readonly contents = new Set<string>();
  private readonly callArguments = new Set<string>();

  constructor(ast: JinjaNode) {
    this.nodes = collect(ast);
    // Names defined by names: go round until nothing new is found.
    for (let before = -1; before !== this.numNames();) {
      before = this.numNames();
      for (const node of this.nodes) this.learn(node);
    }
  }

  result(): TemplateExpectations {
    const loops = this.nodes.filter((node) => node.type === "For");
    const questions = this.nodes
      .filter(
        (node) =>
          node.type === "TestExpression" && this.isContent(node.operand),
      )
      .map((test) => identifier(test.test) ?? "");
    return {
      contentParts: loops.some((loop) => this.loopsOverParts(loop)),
      contentStringToo: questions.some((name) =>
        ["string", "iterable", "sequence", "mapping"].includes(name),
      ),
      contentOptional: questions.length > 0,
      argumentsAsText:
        this.nodes.some((node) => this.usesAsText(node)) &&
        !this.nodes.some((node) => this.usesStructure(node)),
    };
  }

  private numNames(): number {
    return (
      this.lists.size +
      this.items.size +
      this.contents.size +
      this.callArguments.size
    );
  }

  private learn(node: JinjaNode): void {
    if (node.type === "For") {
      if (this.isMessages(node.iterable)) this.bind(node.loopvar, this.items);
    } else if (node.type === "Set") {
      this.assign(node.assignee, node.value);
    } else if (node.type === "CallExpression") {
      const macro = this.macro(identifier(node.callee));
      const parameters =
        macro !== undefined && Array.isArray(macro.args) ? macro.args : [];
      const passed: unknown[] = Array.isArray(node.args) ? node.args : [];
      parameters.forEach((parameter: unknown, i) => {
        const target =
          isNode(parameter) && parameter.type === "KeywordArgumentExpression"
            ? parameter.key
            : parameter;
        this.assign(target, passed[i]);
      });
    }
  }

  private macro(name: string | null): JinjaNode | undefined {
    if (name === null) return undefined;
    return this.nodes.find(
      (node) => node.type === "Macro" && identifier(node.name) === name,
    );
  }

  private assign(target: unknown, value: unknown): void {
    if (this.isMessages(value)) this.bind(target, this.lists);
    else if (this.isMessage(value)) this.bind(target, this.items);
    else if (this.isContent(value)) this.bind(target, this.contents);
    else if (this.isArguments(value)) this.bind(target, this.callArguments);
  }

  private bind(target: unknown, names: Set<string>): void {
    const name = identifier(target);
    if (name !== null) names.add(name);
  }

  private isMessages(value: unknown): boolean {
    const name = identifier(core(value));
    return name !== null && this.lists.has(name);
  }

  /** A name of a message, or `messages[0]`. */
  private isMessage(value: unknown): boolean {
    const node = core(value);
    if (!isNode(node)) return false;
    if (
      node.type === "MemberExpression" &&
      node.computed === true &&
      memberKey(node) === null
    )
      return this.isMessages(node.object);
    const name = identifier(node);
    return name !== null && this.items.has(name);
  }

  private isContent(value: unknown): boolean {
    const node = core(value);
    if (!isNode(node)) return false;
    if (node.type === "MemberExpression")
      return memberKey(node) === "content" && this.isMessage(node.object);
    const name = identifier(node);
    return name !== null && this.contents.has(name);
  }

  private isArguments(value: unknown): boolean {
    if (!isNode(value)) return false;
    if (value.type === "MemberExpression")
      return memberKey(value) === "arguments";
    const name = identifier(value);
    return name !== null && this.callArguments.has(name);
  }

  /**
   * Looping over `message.content` itself says enough. Through another name it must be seen that the items are parts:
   * some templates take a list of tool calls in the content of a message of their own role.
   */
  private loopsOverParts(loop: JinjaNode): boolean {
    if (!this.isContent(loop.iterable)) return false;
    if (identifier(core(loop.iterable)) === null) return true;
    const item = identifier(loop.loopvar);
    return collect(loop.body).some(
      (node) =>
        node.type === "MemberExpression" &&
        identifier(node.object) === item &&
        ["type", "text"].includes(memberKey(node) ?? ""),
    );
  }

  /** The arguments are joined to other text, or printed as they are. */
  private usesAsText(node: JinjaNode): boolean {
    if (node.type === "BinaryExpression")
      return this.isArguments(node.left) || this.isArguments(node.right);
    return (
      Array.isArray(node.body) &&
      node.body.some((statement) => this.isArguments(statement))
    );
  }

  /** A filter on the arguments, a look into them, a loop over them or a question what they are. */
  private usesStructure(node: JinjaNode): boolean {
    switch (node.type) {
      case "FilterExpression":
      case "TestExpression":
        return (
          this.isArguments(node.operand) && identifier(node.test) !== "defined"
        );
      case "MemberExpression":
        return this.isArguments(node.object);
      case "For":
        return this.isArguments(node.iterable);
      default:
        return false;
    }
  }
}

export function analyzeTemplate(ast: JinjaNode): TemplateExpectations {
  return new Analysis(ast).result();
}
