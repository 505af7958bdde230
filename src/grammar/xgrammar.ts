import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";
import type * as XGrammarModule from "@mlc-ai/web-xgrammar";

export type XGrammar = typeof XGrammarModule;
export type {
  CompiledGrammar,
  GrammarCompiler,
  GrammarMatcher,
} from "@mlc-ai/web-xgrammar";

/**
 * Loads XGrammar. Its package says that it is an ES module and holds a UMD bundle, which there puts itself on globalThis,
 * and which wants `require` and `__filename` of the script that it thinks it is. For worker threads: these stay global.
 */
export async function loadXGrammar(): Promise<XGrammar> {
  const scope = globalThis as unknown as Record<string, unknown>;
  const file = createRequire(import.meta.url).resolve("@mlc-ai/web-xgrammar");
  scope["__filename"] = file;
  scope["require"] = createRequire(file);
  await import(pathToFileURL(file).href);
  return scope["xgrammar"] as XGrammar;
}
