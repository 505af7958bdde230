import { Option, type Command } from "commander";
import { integer } from "../../src/cli/flags.js";

/** One flag of a table of flags. */
export type Row = [
  flags: string,
  help: string,
  value?: unknown,
  parse?: unknown,
];

/** A whole number of at least `min`. */
export function atLeast(min: number): (text: string) => number {
  return integer(min, Number.MAX_SAFE_INTEGER);
}

export function addRows(command: Command, rows: readonly Row[]): void {
  for (const [flags, help, value, parse] of rows) {
    const option = new Option(flags, help);
    if (value !== undefined)
      option.default(value, Array.isArray(value) ? value.join(",") : undefined);
    if (parse !== undefined)
      option.argParser(parse as (text: string) => unknown);
    command.addOption(option);
  }
}
