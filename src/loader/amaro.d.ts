/** amaro ships no types. */
declare module "amaro" {
  /** Replaces types by blanks. Throws on syntax errors and on TypeScript that is more than types. */
  export function transformSync(
    source: string,
    options: { mode: "strip-only" },
  ): { code: string };
}
