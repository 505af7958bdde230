import { InvalidArgumentError, Option, type Command } from "commander";
import { OctavoError } from "../core/errors.js";

/** One flag of `octavo serve`: also OCTAVO_<NAME> in the environment and `<name>:` in --config. */
export interface Flag {
  /** Long name without dashes, vLLM's where the idea is the same. */
  name: string;
  /** Placeholder of the value; none: a switch. */
  value?: string;
  /** A switch that also has --no-<name>. */
  negatable?: boolean;
  repeatable?: boolean;
  /** The value is the JSON of an object; a configuration file may have the object itself. */
  json?: boolean;
  help: string;
  default?: unknown;
  choices?: readonly string[];
  parse?: (text: string) => unknown;
}

/** A whole number in [min, max]. */
export function integer(
  min: number,
  max = Number.MAX_SAFE_INTEGER,
): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (!/^-?\d+$/.test(text.trim()) || value < min || value > max)
      throw new InvalidArgumentError(
        `Expected a whole number ${range(min, max)}, got "${text}".`,
      );
    return value;
  };
}

/** A number in [min, max], or (min, max] when `open`. */
export function number(
  min: number,
  max: number,
  open = false,
): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (
      text.trim() === "" ||
      !Number.isFinite(value) ||
      value > max ||
      (open ? value <= min : value < min)
    )
      throw new InvalidArgumentError(
        `Expected a number ${range(min, max)}, got "${text}".`,
      );
    return value;
  };
}

function range(min: number, max: number): string {
  if (max === Number.MAX_SAFE_INTEGER || max === Infinity)
    return `of at least ${min}`;
  return `from ${min} to ${max}`;
}

/** Only one value works today; another one is refused with the reason rather than ignored. */
export function only(
  allowed: readonly string[],
  why: string,
): (text: string) => string {
  return (text) => {
    if (!allowed.includes(text))
      throw new InvalidArgumentError(
        `Expected ${allowed.join(" or ")}, got "${text}": ${why}`,
      );
    return text;
  };
}

export function addFlags(command: Command, flags: readonly Flag[]): void {
  for (const flag of flags) {
    for (const option of optionsOf(flag)) command.addOption(option);
  }
}

function optionsOf(flag: Flag): Option[] {
  const long = flag.value ? `--${flag.name} <${flag.value}>` : `--${flag.name}`;
  const option = new Option(long, flag.help);
  // A switch's variable says true or false (applySwitchVariables); commander would take any text as true.
  if (flag.value) option.env(environmentName(flag.name));
  if (flag.default !== undefined) option.default(flag.default);
  if (flag.choices) option.choices(flag.choices);
  const { parse } = flag;
  if (flag.repeatable)
    option.argParser((text: string, previous: unknown) =>
      append(previous, parse ? parse(text) : text),
    );
  else if (parse) option.argParser(parse);
  if (!flag.negatable) return [option];
  return [option, new Option(`--no-${flag.name}`, `turn --${flag.name} off`)];
}

function append(previous: unknown, value: unknown): unknown[] {
  return Array.isArray(previous)
    ? [...(previous as unknown[]), value]
    : [value];
}

export function environmentName(flag: string): string {
  return `OCTAVO_${flag.toUpperCase().replaceAll("-", "_")}`;
}

/** OCTAVO_<SWITCH>=true|false|1|0, for switches that the command line leaves open. */
export function applySwitchVariables(
  command: Command,
  flags: readonly Flag[],
  environment: NodeJS.ProcessEnv,
): void {
  for (const flag of flags) {
    const name = environmentName(flag.name);
    const text = flag.value ? undefined : environment[name];
    if (text === undefined) continue;
    if (!["true", "false", "1", "0"].includes(text))
      throw new OctavoError(
        "invalid_config",
        `${name}: expected true, false, 1 or 0, got "${text}".`,
        flag.name,
      );
    const attribute = camelCase(flag.name);
    if (command.getOptionValueSource(attribute) === "cli") continue;
    command.setOptionValueWithSource(
      attribute,
      text === "true" || text === "1",
      "env",
    );
  }
}

/**
 * Takes values from a parsed config file for flags that the command line and the environment leave open.
 * Keys are flag names; unknown keys and wrong values are errors that name the key.
 */
export function applyConfigFile(
  command: Command,
  flags: readonly Flag[],
  file: string,
  content: unknown,
): void {
  if (content === null || typeof content !== "object" || Array.isArray(content))
    throw new OctavoError(
      "invalid_config",
      `${file}: expected a mapping of flag names to values`,
      "config",
    );
  for (const [key, value] of Object.entries(content)) {
    const flag = flags.find(
      (candidate) => candidate.name === key.replaceAll("_", "-"),
    );
    if (!flag)
      throw new OctavoError(
        "invalid_config",
        `${file}: unknown key "${key}"; expected a flag of octavo serve`,
        key,
      );
    const attribute = camelCase(flag.name);
    const source = command.getOptionValueSource(attribute);
    if (source === "cli" || source === "env") continue;
    command.setOptionValueWithSource(
      attribute,
      fromConfig(flag, value, file),
      "config",
    );
  }
}

function fromConfig(flag: Flag, value: unknown, file: string): unknown {
  if (flag.repeatable && Array.isArray(value))
    return value.map((item) => scalarFromConfig(flag, item, file));
  const scalar = scalarFromConfig(flag, value, file);
  return flag.repeatable ? [scalar] : scalar;
}

function textFromConfig({ json }: Flag, value: unknown): string | null {
  if (typeof value === "string" || typeof value === "number")
    return String(value);
  return json === true && typeof value === "object"
    ? JSON.stringify(value)
    : null;
}

function scalarFromConfig(flag: Flag, value: unknown, file: string): unknown {
  const fail = (expected: string): never => {
    throw new OctavoError(
      "invalid_config",
      `${file}: ${flag.name}: ${expected} Got ${JSON.stringify(value)}.`,
      flag.name,
    );
  };
  if (!flag.value)
    return typeof value === "boolean" ? value : fail("Expected true or false.");
  const text = textFromConfig(flag, value);
  if (text === null) return fail("Expected a string or a number.");
  if (flag.choices && !flag.choices.includes(text))
    return fail(`Expected one of ${flag.choices.join(", ")}.`);
  if (!flag.parse) return text;
  try {
    return flag.parse(text);
  } catch (error) {
    return fail(error instanceof Error ? error.message : String(error));
  }
}

export function camelCase(name: string): string {
  return name.replace(/-([a-z])/g, (_, letter: string) => letter.toUpperCase());
}
