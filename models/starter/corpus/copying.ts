import {
  ask,
  fill,
  listed,
  typed,
  upperFirst,
  type Phrasings,
  type Turn,
  type Voice,
} from "./dialogue.js";
import { phrasings } from "./phrasing.js";
import * as words from "./words.js";

/** Leads, verbs and objects of a request, put together in every way. */
function requests(
  verbs: readonly string[],
  objects: readonly string[],
  heldout: readonly string[],
): Phrasings {
  const leads = [
    "",
    "",
    "please ",
    "can you ",
    "could you ",
    "now ",
    "would you ",
    "I want you to ",
    "can you please ",
    "you must ",
    "let's ",
    "I need you to ",
  ];
  const train = leads.flatMap((lead) =>
    verbs.flatMap((verb) =>
      objects.flatMap((object) => {
        const start = upperFirst(`${lead}${verb}${object}`);
        const asks = /^(Can|Could|Would)/.test(start);
        return asks
          ? [`${start}: {x}`, `${start}? {x}`]
          : [`${start}: {x}`, `${start}: {x}`, `${start}. {x}`];
      }),
    ),
  );
  return {
    train: train.filter((text) => !heldout.includes(text)),
    heldout,
  };
}

const REPEAT = requests(
  [
    "repeat",
    "say",
    "copy",
    "echo",
    "write",
    "type",
    "print",
    "write down",
    "give back",
    "read out",
    "send back",
    "output",
  ],
  [
    "",
    " this",
    " after me",
    " the following",
    " the words",
    " this text",
    " this exactly",
    " exactly this",
    " this line",
    " these words",
    " what follows",
    " the text",
    " my words",
    " this sentence",
  ],
  [
    "Please say the following: {x}",
    "Copy these words exactly: {x}",
    "Can you repeat this? {x}",
    "Write the following: {x}",
  ],
);

const REVERSE = requests(
  ["reverse", "turn around", "flip"],
  [
    "",
    " these",
    " this",
    " this list",
    " the list",
    " the order",
    " the order of this list",
    " the words",
    " the following",
    " the following list",
    " the order of these words",
    " everything in this list",
    " the items",
  ],
  [
    "Please reverse these: {x}",
    "Put this list in reverse order: {x}",
    "Write these words backwards: {x}",
  ],
);

const BACKWARDS = requests(
  ["write", "say", "put", "list", "repeat", "give me", "copy"],
  [
    " this",
    " this list",
    " these words",
    " the list",
    " the words",
    " the following",
    " these items",
    " them",
  ].flatMap((object) => [
    `${object} backwards`,
    `${object} in reverse`,
    `${object} in reverse order`,
    `${object} the other way round`,
  ]),
  REVERSE.heldout,
);

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
  if (kind < 0.45) return voice.pick(words.ALL_WORDS);
  if (kind < 0.6) return voice.pick(words.NAMES);
  if (kind < 0.7) return voice.pick(words.CITIES);
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
  const question = fill(voice.phrase(voice.chance(0.5) ? REVERSE : BACKWARDS), {
    x: items.join(separator),
  });
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
const NAME_SOME = phrasings({
  nouns: ["{n} {kind}", "a list of {n} {kind}", "the names of {n} {kind}"],
  commands: [
    "list {n} {kind}",
    "name {n} {kind}",
    "write {n} {kind}",
    "write down {n} {kind}",
    "make a list of {n} {kind}",
    "give me {n} {kind}",
  ],
  heldout: ["Can you list {n} {kind}?", "Please name {n} {kind} for me."],
});

export function listing(voice: Voice): Turn {
  if (voice.chance(0.45)) return counting(voice);
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
