/** Whether JSON is what a client package's types say: its declarations, read by the TypeScript compiler. */
import path from "node:path";
import ts from "typescript";
import type { Json } from "../support.js";

/** What the package itself adds to answers. */
const MADE_BY_THE_CLIENT = new Set(["output_text"]);

/** Declarations of one file of the package. Slow to make (seconds): one for a test file. */
export class OpenAITypes {
  private readonly checker: ts.TypeChecker;
  private readonly types: ReadonlyMap<string, ts.Type>;

  /** @param file under node_modules/PACKAGE, as "resources/responses/responses.d.ts" */
  constructor(file: string, packageName = "openai") {
    const name = path.resolve("node_modules", packageName, file);
    const program = ts.createProgram([name], {
      strict: true,
      noEmit: true,
      skipLibCheck: true,
      types: [],
      target: ts.ScriptTarget.ES2023,
      module: ts.ModuleKind.NodeNext,
      moduleResolution: ts.ModuleResolutionKind.NodeNext,
    });
    this.checker = program.getTypeChecker();
    const source = program.getSourceFile(name);
    const module = source && this.checker.getSymbolAtLocation(source);
    if (module === undefined) throw new Error(`${file} is no module`);
    this.types = new Map(
      this.checker
        .getExportsOfModule(module)
        .map((symbol) => [
          symbol.name,
          this.checker.getDeclaredTypeOfSymbol(symbol),
        ]),
    );
  }

  /** Where `value` is not what `name` says: paths, and what was expected there. Fields beside those are welcome. */
  faults(name: string, value: Json): string[] {
    return this.check(this.typeOf(name), value, name);
  }

  /** The fields of `name`, those that need not be there too. */
  fieldsOf(name: string): string[] {
    return this.typeOf(name)
      .getProperties()
      .map((property) => property.name);
  }

  private typeOf(name: string): ts.Type {
    const type = this.types.get(name);
    if (type === undefined) throw new Error(`no type ${name}`);
    return type;
  }

  private check(type: ts.Type, value: Json, at: string): string[] {
    const { Any, Unknown, StringLike, NumberLike, BooleanLike, Null } =
      ts.TypeFlags;
    if (type.flags & (Any | Unknown)) return [];
    if (type.isUnion()) return this.checkUnion(type, value, at);
    // "string & {}": some string, beside those that are named.
    const [first] = type.isIntersection() ? type.types : [];
    if (first && first.flags & StringLike) return this.check(first, value, at);
    const ok = (good: boolean): string[] =>
      good
        ? []
        : [`${at}: ${this.checker.typeToString(type)}, not ${String(value)}`];
    if (type.isLiteral()) return ok(value === type.value);
    if (type.flags & StringLike) return ok(typeof value === "string");
    if (type.flags & NumberLike) return ok(typeof value === "number");
    // The two literals of a boolean have no value of their own.
    if (type.flags & BooleanLike) return ok(typeof value === "boolean");
    if (type.flags & Null) return ok(value === null);
    if (this.checker.isArrayType(type)) {
      if (!Array.isArray(value)) return ok(false);
      const [item] = this.checker.getTypeArguments(type as ts.TypeReference);
      return value.flatMap((entry, i) =>
        item === undefined ? [] : this.check(item, entry, `${at}[${i}]`),
      );
    }
    if (typeof value !== "object" || value === null || Array.isArray(value))
      return ok(false);
    return this.checkObject(type, value, at);
  }

  private checkObject(type: ts.Type, value: Json, at: string): string[] {
    const known = type.getProperties();
    const faults = known.flatMap((property) => {
      const { name } = property;
      const optional = (property.flags & ts.SymbolFlags.Optional) !== 0;
      if (MADE_BY_THE_CLIENT.has(name)) return [];
      if (!(name in value)) return optional ? [] : [`${at}.${name}: missing`];
      // What need not be there may be null: OpenAI's own answers are full of that.
      if (value[name] === null && optional) return [];
      const own = this.checker.getTypeOfSymbol(property);
      return this.check(own, value[name], `${at}.${name}`);
    });
    const index = type.getStringIndexType();
    if (index === undefined) return faults;
    const names = new Set(known.map(({ name }) => name));
    for (const [name, entry] of Object.entries(value))
      if (!names.has(name))
        faults.push(...this.check(index, entry, `${at}.${name}`));
    return faults;
  }

  /** The faults beside the member that fits best: of objects, one of the same `type`. */
  private checkUnion(type: ts.UnionType, value: Json, at: string): string[] {
    const members = type.types.filter(
      (member) => !(member.flags & ts.TypeFlags.Undefined),
    );
    const named = members.filter((member) => this.isNamed(member, value));
    const tried = (named.length > 0 ? named : members).map((member) =>
      this.check(member, value, at),
    );
    tried.sort((a, b) => a.length - b.length);
    return tried[0] ?? [];
  }

  private isNamed(member: ts.Type, value: Json): boolean {
    const property = member.getProperty("type");
    if (property === undefined || typeof value?.type !== "string") return false;
    const own = this.checker.getTypeOfSymbol(property);
    return own.isStringLiteral() && own.value === value.type;
  }
}
