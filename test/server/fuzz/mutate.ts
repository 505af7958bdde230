/** Damages JSON, the same way for the same seed. */

/** Mulberry32: a small generator with a seed. */
export function generator(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

function nested(depth: number): unknown {
  let value: unknown = "a";
  for (let i = 0; i < depth; i++) value = i % 2 === 0 ? [value] : { a: value };
  return value;
}

/** What is put in the place of anything. */
const VALUES: readonly unknown[] = [
  null,
  true,
  false,
  -1,
  0,
  1,
  257,
  1e308,
  2 ** 31,
  2 ** 53,
  0.5,
  "",
  "a",
  "\ud800",
  "\u0000",
  "{{ x }}{% raw %}<|im_start|>",
  "(((a*)*)*|[b-",
  "x".repeat(3000),
  [],
  [[]],
  {},
  { type: "function_call" },
  { type: "object", properties: { a: { $ref: "#" } } },
  ["a", null],
  nested(60),
  { constructor: 2, length: 3, toString: null },
  JSON.parse('{"__proto__": {"a": 1}}'),
];
const CHARS = ['"', "\\", "(", ")", "[", "]", "{", "}", "*", "|", "é", "\n"];

type Place = [parent: Record<string, unknown>, key: string];

function placesOf(root: unknown): Place[] {
  const places: Place[] = [];
  const walk = (value: unknown): void => {
    if (typeof value !== "object" || value === null) return;
    const parent = value as Record<string, unknown>;
    for (const key of Object.keys(parent)) {
      places.push([parent, key]);
      walk(parent[key]);
    }
  };
  walk(root);
  return places;
}

/** One place of it, sometimes more, is replaced, removed, wrapped, copied elsewhere, nudged or, in a text, cut into. */
export function mutate(body: unknown, random: () => number): unknown {
  let copy: unknown = structuredClone(body);
  for (let more = true; more; more = random() < 0.3) {
    const places = placesOf(copy);
    const place = places[below(places.length, random)];
    if (place === undefined || random() < 0.01)
      copy = structuredClone(pick(VALUES, random));
    else change(place, places, random);
  }
  return copy;
}

function change(
  [parent, key]: Place,
  places: readonly Place[],
  random: () => number,
): void {
  const value = parent[key];
  const kind = random();
  if (kind < 0.2) delete parent[key];
  else if (kind < 0.3) parent[key] = [value];
  else if (kind < 0.4) {
    const [from, name] = pick(places, random);
    parent[key] = structuredClone(from[name]);
  } else if (kind < 0.65 && typeof value === "number")
    parent[key] = pick([-value, value + 1, value - 1, value * 1000], random);
  else if (kind < 0.65 && typeof value === "string")
    parent[key] = damaged(value, random);
  else parent[key] = structuredClone(pick(VALUES, random));
}

/** Some characters are cut out of a text, or one is put in. */
export function damaged(text: string, random: () => number): string {
  const at = below(text.length + 1, random);
  return random() < 0.5
    ? text.slice(0, at) + text.slice(at + 1 + below(4, random))
    : text.slice(0, at) + pick(CHARS, random) + text.slice(at);
}

function below(limit: number, random: () => number): number {
  return Math.floor(random() * limit);
}

export function pick<T>(list: readonly T[], random: () => number): T {
  return list[below(list.length, random)] as T;
}
