import { shown } from "./errors.js";

/** What a limit bounds, by the name that it has in the keys file. */
export const LIMITS = {
  rpm: "requests a minute",
  tpm: "tokens a minute, read and written",
  concurrency: "requests at once",
  max_tokens: "tokens of an answer",
  max_choices: "choices of a request, over all its prompts",
} as const;

export type LimitName = keyof typeof LIMITS;

/** What a client may ask for; as much as it likes where nothing is said. Each is at least 1. */
export type KeyLimits = Readonly<Partial<Record<LimitName, number>>>;

export const NO_LIMITS: KeyLimits = {};

/** Whole numbers of up to nine digits. */
const VALUE = /^[1-9]\d{0,8}$/;
const NAMES = Object.keys(LIMITS).join(", ");

/** Whether a word of the keys file can only be a limit, also one that is spelled wrong: keys have no = before a digit. */
export function isLimit(word: string): boolean {
  const at = word.indexOf("=");
  return (
    at > 0 && (isLimitName(word.slice(0, at)) || /^[a-z_]+=\d/i.test(word))
  );
}

/**
 * The limits that stand behind a key.
 * @param words name=value each
 * @param refused makes the error of what is wrong with them
 */
export function readLimits(
  words: readonly string[],
  refused: (why: string) => Error,
): KeyLimits {
  const limits: Partial<Record<LimitName, number>> = {};
  for (const word of words) {
    const at = word.indexOf("=");
    const name = at < 0 ? word : word.slice(0, at);
    if (!isLimitName(name))
      throw refused(`expected limits by the names ${NAMES}${got(word)}`);
    const value = at < 0 ? undefined : word.slice(at + 1);
    if (value === undefined || !VALUE.test(value))
      throw refused(
        `${name}: expected a whole number from 1 to 999999999, got ${shown(value)}`,
      );
    if (limits[name] !== undefined) throw refused(`${name} stands there twice`);
    limits[name] = Number(value);
  }
  return limits;
}

/** What both say. Calls `refused` with a limit that they say differently. */
export function joinLimits(
  one: KeyLimits,
  other: KeyLimits,
  refused: (name: LimitName) => Error,
): KeyLimits {
  for (const name of Object.keys(other) as LimitName[])
    if (one[name] !== undefined && one[name] !== other[name])
      throw refused(name);
  return { ...one, ...other };
}

/** What is no limit's name may be a key, and is shown only where it is none. */
function got(word: string): string {
  const name = /^([a-z_-]{1,16})=\d{1,9}$/i.exec(word)?.[1];
  return name === undefined ? "" : `, got ${shown(name)}`;
}

function isLimitName(name: string): name is LimitName {
  return Object.hasOwn(LIMITS, name);
}
