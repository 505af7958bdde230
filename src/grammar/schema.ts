/**
 * JSON Schema (2020-12) as a grammar of JSON with fixed white space. Whatever the grammar lets through is valid against
 * the schema; a schema for which that can't be had is refused, with the place and the keyword. The grammar may leave out
 * valid values: it writes properties in the schema's order, numbers with at most 15 digits, and no properties that the
 * schema does not name unless it speaks of them.
 */
import { refused } from "./grammar-error.js";
import { JSON_NOTATION, PYTHON_NOTATION } from "./json-text.js";
import type { Notation } from "./json-text.js";
import { NOTHING, Rule, choice } from "./nodes.js";
import type { Node } from "./nodes.js";
import { areDisjoint } from "./schema-disjoint.js";
import {
  KEYWORDS_OF,
  TYPES,
  isObject,
  isSchema,
  limitsOf,
  pathOf,
  shown,
} from "./schema-keywords.js";
import type { JsonObject, Schema, TypeName } from "./schema-keywords.js";
import { intersect } from "./schema-merge.js";
import { PYTHON_ARGUMENTS } from "./schema-object.js";
import { objectOf, typeNode } from "./schema-types.js";
import { fits, undecided } from "./schema-values.js";

const MAX_DEPTH = 100;
const MAX_MERGES = 5000;

/** Throws 400 that names the place below `param`. */
export function schemaNode(schema: unknown, param: string): Node {
  return compilerOf(schema, param, JSON_NOTATION).compileRoot();
}

/** The arguments of a call as Python writes them, `(x=1, y=None)`, that match a schema of objects. Throws as `schemaNode`. */
export function argumentsNode(schema: unknown, param: string): Node {
  return compilerOf(schema, param, PYTHON_NOTATION).compileArguments();
}

function compilerOf(
  schema: unknown,
  param: string,
  notation: Notation,
): SchemaCompiler {
  if (isSchema(schema)) return new SchemaCompiler(schema, param, notation);
  throw refused(
    param,
    `expected a JSON schema (an object, true or false), got ${shown(schema)}`,
  );
}

class SchemaCompiler {
  /** One rule for each place that a $ref names, so that schemas may contain themselves. */
  private readonly rules = new Map<string, Node>();
  private depth = 0;

  constructor(
    private readonly root: Schema,
    private readonly param: string,
    readonly notation: Notation,
  ) {}

  compileRoot(): Node {
    return this.reference("#", this.param);
  }

  compileArguments(): Node {
    return this.argumentsOf(this.root, this.param);
  }

  /** Objects alone: what the schema says of other values does not matter. */
  private argumentsOf(schema: Schema, path: string): Node {
    if (schema === false) return NOTHING;
    if (++this.depth > MAX_DEPTH)
      throw refused(path, `schemas nest deeper than ${MAX_DEPTH}`);
    const limits =
      schema === true ? {} : limitsOf(schema, path, schema === this.root);
    const node = this.argumentsWithin(limits, path);
    this.depth--;
    return node;
  }

  private argumentsWithin(limits: JsonObject, path: string): Node {
    const { $ref, allOf, anyOf, oneOf } = limits;
    const alone = Object.keys(limits).length === 1;
    const branches = anyOf ?? oneOf;
    if (Array.isArray(branches) && alone) {
      if (Array.isArray(oneOf)) this.requireDisjoint(oneOf as Schema[], path);
      const keyword = anyOf === undefined ? "oneOf" : "anyOf";
      return choice(
        branches.map((branch, i) =>
          this.argumentsOf(branch as Schema, pathOf(`${path}.${keyword}`, i)),
        ),
      );
    }
    if ($ref ?? allOf ?? branches)
      return this.argumentsOf(this.merged(limits, true, path), path);
    for (const keyword of ["const", "enum"])
      if (limits[keyword] !== undefined)
        throw refused(
          `${path}.${keyword}`,
          "structured output cannot enforce it of all the arguments of a call",
        );
    const types = typesOf(limits);
    return types === null || types.includes("object")
      ? objectOf(limits, path, this, PYTHON_ARGUMENTS)
      : NOTHING;
  }

  readonly compile = (schema: Schema, path: string): Node => {
    if (schema === true) return this.notation.anyValue;
    if (schema === false) return NOTHING;
    if (++this.depth > MAX_DEPTH)
      throw refused(path, `schemas nest deeper than ${MAX_DEPTH}`);
    const limits = limitsOf(schema, path, schema === this.root);
    const node = this.limited(limits, path);
    this.depth--;
    return node;
  };

  private limited(limits: JsonObject, path: string): Node {
    const { $ref, allOf, anyOf, oneOf } = limits;
    const keywords = Object.keys(limits);
    const alone = keywords.length === 1;
    if (typeof $ref === "string" && alone) return this.reference($ref, path);
    if (Array.isArray(allOf) && alone && allOf.length === 1)
      return this.compile(allOf[0] as Schema, pathOf(`${path}.allOf`, 0));
    if (Array.isArray(anyOf) && alone) return this.union("anyOf", anyOf, path);
    if (Array.isArray(oneOf) && alone) {
      this.requireDisjoint(oneOf as Schema[], path);
      return this.union("oneOf", oneOf, path);
    }
    for (const keyword of ["unevaluatedProperties", "unevaluatedItems"])
      if (limits[keyword] !== undefined && ($ref ?? allOf ?? anyOf ?? oneOf))
        throw refused(
          `${path}.${keyword}`,
          "structured output cannot enforce it beside $ref, allOf, anyOf or oneOf",
        );
    if ($ref ?? allOf ?? anyOf ?? oneOf)
      return this.compile(this.merged(limits, true, path), path);
    if (limits["const"] !== undefined || limits["enum"] !== undefined)
      return this.values(limits, path);
    const types = typesOf(limits);
    if (types === null) return this.notation.anyValue;
    return choice(types.map((type) => typeNode(type, limits, path, this)));
  }

  private union(keyword: string, branches: unknown[], path: string): Node {
    return choice(
      branches.map((branch, i) =>
        this.compile(branch as Schema, pathOf(`${path}.${keyword}`, i)),
      ),
    );
  }

  private merged(a: Schema, b: Schema, path: string): Schema {
    const context = {
      path,
      budget: MAX_MERGES,
      isRoot: (schema: Schema) => schema === this.root,
      resolve: (ref: string, at: string) => this.resolve(ref, at),
    };
    // {} has no limits of its own; with it keywords beside $ref, anyOf and so on are taken apart.
    return intersect(a, b === true ? {} : b, context);
  }

  private requireDisjoint(branches: readonly Schema[], path: string): void {
    const simplify = (schema: Schema): Schema => {
      if (!isObject(schema)) return schema;
      const split =
        schema["$ref"] !== undefined || schema["allOf"] !== undefined;
      return split ? this.merged(schema, true, path) : schema;
    };
    for (let i = 0; i < branches.length; i++)
      for (let j = i + 1; j < branches.length; j++)
        if (
          !areDisjoint(branches[i] as Schema, branches[j] as Schema, simplify)
        )
          throw refused(
            `${path}.oneOf`,
            `a value may match both [${i}] and [${j}], which structured output cannot rule out; use anyOf, or tell them apart by type or by a required property with a const`,
          );
  }

  private values(limits: JsonObject, path: string): Node {
    const list = Object.hasOwn(limits, "const")
      ? [limits["const"]]
      : (limits["enum"] as unknown[]);
    const nodes: Node[] = [];
    for (const value of list) {
      if (!fits(value, limits)) continue;
      const keyword = undecided(value, limits);
      if (keyword !== null)
        throw refused(
          `${path}.${keyword}`,
          "structured output cannot enforce it together with const or enum",
        );
      nodes.push(this.notation.literal(value));
    }
    return choice(nodes);
  }

  private reference(ref: string, path: string): Node {
    const known = this.rules.get(ref);
    if (known) return known;
    const rule = new Rule();
    const node: Node = { kind: "rule", rule };
    this.rules.set(ref, node);
    const place = ref === "#" ? this.param : this.param + placeOf(ref);
    const { depth } = this;
    this.depth = 0;
    rule.body = this.compile(this.resolve(ref, path), place);
    this.depth = depth;
    return node;
  }

  /** Throws 400 for what is not a JSON pointer into this document. */
  private resolve(ref: string, path: string): Schema {
    if (ref !== "#" && !ref.startsWith("#/"))
      throw refused(
        `${path}.$ref`,
        `expected a reference into this schema (#/$defs/...), got ${shown(ref)}`,
      );
    let target: unknown = this.root;
    for (const step of stepsOf(ref)) {
      const inside =
        typeof target === "object" &&
        target !== null &&
        Object.hasOwn(target, step);
      target = inside ? (target as JsonObject)[step] : undefined;
    }
    if (isSchema(target)) return target;
    throw refused(`${path}.$ref`, `${shown(ref)} leads to no schema`);
  }
}

function stepsOf(ref: string): string[] {
  return ref
    .split("/")
    .slice(1)
    .map((step) => decode(step).replaceAll("~1", "/").replaceAll("~0", "~"));
}

function decode(step: string): string {
  try {
    return decodeURIComponent(step);
  } catch {
    return step;
  }
}

function placeOf(ref: string): string {
  return stepsOf(ref).reduce((path, step) => pathOf(path, step), "");
}

/** The types that a schema names, or those that its keywords are about; null: any value at all. */
function typesOf(limits: JsonObject): TypeName[] | null {
  if (limits["type"] !== undefined) {
    const types = [limits["type"]].flat() as TypeName[];
    // An integer is a number as well.
    return types.filter(
      (type) => type !== "integer" || !types.includes("number"),
    );
  }
  const about = new Set(
    Object.keys(limits).map((keyword) => KEYWORDS_OF[keyword]),
  );
  if (about.size === 0) return null;
  return TYPES.filter((type) => about.has(type));
}
