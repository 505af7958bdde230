/**
 * The few entry points of @huggingface/jinja that we use, with their types. (Its own declarations import each other
 * without file extensions, which TypeScript does not resolve for ES modules, so everything in them would be `any`.)
 * The parts are used instead of its `Template` class because that one fixes the globals, and with them the clock.
 */
import * as library from "@huggingface/jinja";

/** A node of a syntax tree: `type` is the name of its class in the library. */
export interface JinjaNode {
  readonly type: string;
  readonly [field: string]: unknown;
}

interface JinjaEnvironment {
  /** Declares a global; plain values and functions are converted. */
  set(name: string, value: unknown): unknown;
}

interface JinjaLibrary {
  readonly Environment: new () => JinjaEnvironment;
  readonly Interpreter: new (environment: JinjaEnvironment) => {
    run(program: JinjaNode): { readonly value: unknown };
  };
  readonly tokenize: (
    source: string,
    options: { readonly lstrip_blocks: boolean; readonly trim_blocks: boolean },
  ) => unknown;
  readonly parse: (tokens: unknown) => JinjaNode;
}

const { Environment, Interpreter, tokenize, parse } =
  library as unknown as JinjaLibrary;

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
  return String(new Interpreter(environment).run(program).value);
}
