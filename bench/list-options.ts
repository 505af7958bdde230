import { InvalidArgumentError, Option } from "commander";
import { integer } from "../src/cli/flags.js";

/** Some of the `allowed` names, by commas. */
export function listOption<T extends string>(
  flags: string,
  help: string,
  allowed: readonly T[],
  chosen: T[],
): Option {
  return new Option(flags, `${help}: ${allowed.join(",")}`)
    .default(chosen, chosen.join(","))
    .argParser((text) =>
      text.split(",").map((part) => {
        const name = allowed.find((one) => one === part.trim());
        if (name !== undefined) return name;
        throw new InvalidArgumentError(
          `Expected some of ${allowed.join(",")}, got "${part}".`,
        );
      }),
    );
}

/** Whole numbers from 1 to `max`, by commas. */
export function numbersOption(
  flags: string,
  help: string,
  chosen: number[],
  max: number,
): Option {
  return new Option(flags, help)
    .default(chosen, chosen.join(","))
    .argParser((text) => text.split(",").map((part) => integer(1, max)(part)));
}
