import {
  ask,
  fill,
  listed,
  typed,
  type Phrasings,
  type Turn,
  type Voice,
} from "./dialogue.js";
import * as words from "./words.js";

const REPEAT: Phrasings = {
  train: [
    "Repeat after me: {x}",
    "Repeat: {x}",
    "Say {x}",
    "Say this: {x}",
    "Copy this: {x}",
    "Copy this text: {x}",
    "Echo {x}",
    "Repeat this exactly: {x}",
    "Write {x}",
    "Please repeat: {x}",
    "Write this down: {x}",
    "Repeat the following: {x}",
    "Type this: {x}",
    "Say exactly this: {x}",
    "Repeat these words: {x}",
  ],
  heldout: [
    "Please say the following: {x}",
    "Copy these words exactly: {x}",
    "Can you repeat this? {x}",
    "Write the following: {x}",
  ],
};

const REVERSE: Phrasings = {
  train: [
    "Reverse this list: {x}",
    "Reverse the list {x}.",
    "Reverse: {x}",
    "Say these backwards: {x}",
    "Turn this list around: {x}",
    "Reverse the order: {x}",
    "Write this list in reverse: {x}",
    "Give me these in reverse order: {x}",
  ],
  heldout: [
    "Please reverse these: {x}",
    "Put this list in reverse order: {x}",
    "Write these words backwards: {x}",
  ],
};

const SYLLABLES =
  "ba be bi bo bu da de di do du fa fe fi ka ke ki ko la le li lo lu ma me mi mo na ne no pa pe po ra re ri ro sa se si so ta te ti to va ve vi zo".split(
    " ",
  );

/** A word that no list has: what is copied must not depend on knowing it. */
function madeUp(voice: Voice): string {
  const word = Array.from({ length: voice.integer(2, 3) }, () =>
    voice.pick(SYLLABLES),
  ).join("");
  return voice.chance(0.3)
    ? word.charAt(0).toUpperCase() + word.slice(1)
    : word;
}

function anyWord(voice: Voice): string {
  const kind = voice.uniform();
  if (kind < 0.55) return voice.pick(words.ALL_WORDS);
  if (kind < 0.7) return voice.pick(words.NAMES);
  if (kind < 0.8) return voice.pick(words.CITIES);
  if (kind < 0.9) return madeUp(voice);
  return String(voice.integer(0, 999));
}

export function sentence(voice: Voice): string {
  const subject = voice.chance(0.5)
    ? voice.pick(words.NAMES)
    : `The ${voice.pick(words.ADJECTIVES)} ${voice.pick(words.ANIMALS)}`;
  const object = `${voice.pick(["the", "a"])} ${voice.pick(words.COLORS)} ${voice.pick(words.THINGS)}`;
  const place = voice.pick([
    "in the garden",
    "at home",
    "near the river",
    "under the tree",
    "on the hill",
    `in ${voice.pick(words.CITIES)}`,
  ]);
  return `${subject} ${voice.pick(words.VERBS)} ${object} ${place}.`;
}

export function repeating(voice: Voice): Turn {
  const kind = voice.uniform();
  const separator = kind < 0.2 ? ", " : " ";
  const text =
    kind < 0.7
      ? Array.from({ length: voice.integer(1, 9) }, () => anyWord(voice)).join(
          separator,
        )
      : kind < 0.9
        ? sentence(voice)
        : Array.from({ length: voice.integer(3, 10) }, () =>
            voice.integer(0, 9),
          ).join(voice.chance(0.5) ? " " : "");
  const request = fill(voice.phrase(REPEAT), { x: text });
  return ask(
    voice.chance(0.15)
      ? request.charAt(0).toLowerCase() + request.slice(1)
      : request,
    text,
  );
}

export function reversing(voice: Voice): Turn {
  const items = Array.from({ length: voice.integer(2, 7) }, () =>
    anyWord(voice),
  );
  const separator = voice.chance(0.75) ? ", " : " ";
  const question = fill(voice.phrase(REVERSE), { x: items.join(separator) });
  return ask(question, [...items].reverse().join(separator));
}

const KINDS: Record<string, readonly string[]> = {
  animals: words.ANIMALS,
  fruits: words.FRUITS,
  colors: words.COLORS,
  cities: words.CITIES,
  names: words.NAMES,
  foods: words.FOODS,
  jobs: words.JOBS,
  vegetables: words.VEGETABLES,
  months: words.MONTHS,
  days: words.DAYS,
};
const NUMBERS = [
  "zero",
  "one",
  "two",
  "three",
  "four",
  "five",
  "six",
  "seven",
  "eight",
  "nine",
  "ten",
];
const NAME_SOME: Phrasings = {
  train: [
    "List {n} {kind}.",
    "Name {n} {kind}.",
    "Give me {n} {kind}.",
    "Tell me {n} {kind}.",
    "Can you name {n} {kind}?",
    "Write a list of {n} {kind}.",
    "I need {n} {kind}.",
    "Write {n} {kind}.",
  ],
  heldout: ["Can you list {n} {kind}?", "Please name {n} {kind} for me."],
};

export function listing(voice: Voice): Turn {
  if (voice.chance(0.25)) return counting(voice);
  const kind = voice.pick(Object.keys(KINDS));
  const n = voice.integer(2, 6);
  const items = voice.sample(KINDS[kind] ?? [], n);
  const number = voice.chance(0.6) ? (NUMBERS[n] ?? "") : String(n);
  const bullets = voice.chance(0.3);
  const question = fill(voice.phrase(NAME_SOME), { n: number, kind });
  return bullets
    ? ask(
        typed(voice, `${question.replace(/[.?]$/, "")} as a list.`),
        items.map((item, i) => `${i + 1}. ${item}`).join("\n"),
      )
    : ask(
        typed(voice, question),
        `${listed(items)}.`.replace(/^./, (c) => c.toUpperCase()),
      );
}

function counting(voice: Voice): Turn {
  const from = voice.integer(0, 20);
  const to = from + voice.integer(2, 12);
  const down = voice.chance(0.3);
  const numbers = Array.from({ length: to - from + 1 }, (_, i) =>
    down ? to - i : from + i,
  );
  const question = down
    ? voice.pick([
        `Count down from ${to} to ${from}.`,
        `Count from ${to} down to ${from}.`,
        `Count backwards from ${to} to ${from}.`,
      ])
    : voice.pick([
        `Count from ${from} to ${to}.`,
        `Please count from ${from} to ${to}.`,
        `Write the numbers from ${from} to ${to}.`,
      ]);
  return ask(typed(voice, question), `${numbers.join(", ")}.`);
}
