import {
  ask,
  fill,
  upperFirst,
  withArticles,
  type Phrasings,
  type Turn,
  type Voice,
} from "./dialogue.js";
import * as words from "./words.js";

type Value = string | number;

/** A kind of record: how its values are drawn, what its keys may be called, and sentences that state it. */
interface Kind {
  draw: (voice: Voice) => Record<string, Value>;
  /** What a key may be called in the request; the first is the value's own name. */
  keys: Record<string, readonly string[]>;
  sentences: Phrasings;
}

const KINDS: readonly Kind[] = [
  {
    draw: (voice) => ({
      name: voice.pick(words.NAMES),
      age: voice.integer(5, 90),
      city: voice.pick(words.CITIES),
    }),
    keys: {
      name: ["name", "person", "first_name"],
      age: ["age", "years"],
      city: ["city", "town", "place"],
    },
    sentences: {
      train: [
        "{name} is {age} years old and lives in {city}.",
        "{name}, {age}, lives in {city}.",
        "My name is {name}, I am {age} and I live in {city}.",
        "I am {name} from {city} and I am {age} years old.",
        "{name} from {city} is {age} years old.",
        "{name} is {age} and comes from {city}.",
        "In {city} lives {name}, who is {age} years old.",
        "{name} lives in {city}. {name} is {age}.",
        "Meet {name}. {name} is {age} years old and works in {city}.",
        "At the age of {age}, {name} moved to {city}.",
        "A person of {age} years called {name} lives in {city}.",
        "{city} is the home of {name}, aged {age}.",
        "Hello, I'm {name}, {age} years old, and my home is {city}.",
        "{name} ({age}) is from {city}.",
      ],
      heldout: [
        "{name} is {age} years old and works in {city}.",
        "My friend {name} is {age} and lives in {city}.",
        "I live in {city}, my name is {name} and I am {age}.",
        "{name}, who is {age} years old, comes from {city}.",
      ],
    },
  },
  {
    draw: (voice) => ({
      item: voice.pick(words.THINGS),
      quantity: voice.integer(1, 50),
      price: voice.integer(1, 99),
    }),
    keys: {
      item: ["item", "product", "article"],
      quantity: ["quantity", "count", "amount"],
      price: ["price", "cost"],
    },
    sentences: {
      train: [
        "Please send {quantity} pieces of the {item} at {price} dollars each.",
        "The {item} costs {price} dollars and I want {quantity}.",
        "Order: {quantity} x {item}, {price} dollars each.",
        "I would like {quantity} of the {item} for {price} dollars each.",
        "We sold {quantity} of the {item} at {price} dollars.",
        "{quantity} times the {item} for {price} dollars.",
        "The price of the {item} is {price} dollars, and we need {quantity}.",
        "She bought {quantity} pieces of the {item} and paid {price} dollars each.",
        "Item {item}, quantity {quantity}, price {price}.",
        "I ordered the {item}, {quantity} of them, at {price} dollars.",
        "For {price} dollars each we take {quantity} of the {item}.",
      ],
      heldout: [
        "We want {quantity} of the {item} at {price} dollars each.",
        "I bought the {item}, {quantity} pieces, for {price} dollars each.",
        "The {item} is {price} dollars and we need {quantity} of them.",
      ],
    },
  },
  {
    draw: (voice) => ({
      event: voice.pick(words.EVENTS),
      day: voice.pick(words.DAYS),
      time: clock(voice),
    }),
    keys: {
      event: ["event", "title", "what"],
      day: ["day", "weekday"],
      time: ["time", "start"],
    },
    sentences: {
      train: [
        "The {event} is on {day} at {time}.",
        "On {day} at {time} there is a {event}.",
        "Don't forget the {event} on {day}, {time}.",
        "We have a {event} at {time} on {day}.",
        "{day}, {time}: {event}.",
        "Let's plan the {event} for {day} at {time}.",
        "The next {event} starts at {time} on {day}.",
        "Come to the {event} on {day}. It starts at {time}.",
        "There will be a {event} this {day} at {time}.",
        "My {event} was moved to {day} at {time}.",
        "At {time} on {day} the {event} begins.",
      ],
      heldout: [
        "Our {event} is planned for {day} at {time}.",
        "The {event} starts on {day} at {time}.",
        "On {day} we have a {event} at {time}.",
      ],
    },
  },
  {
    draw: (voice) => ({
      animal: voice.pick(words.ANIMALS),
      color: voice.pick(words.COLORS),
      name: voice.pick(words.NAMES),
    }),
    keys: {
      animal: ["animal", "pet", "kind"],
      color: ["color"],
      name: ["name", "owner"],
    },
    sentences: {
      train: [
        "{name} has a {color} {animal}.",
        "The {color} {animal} belongs to {name}.",
        "A {color} {animal} was found by {name}.",
        "{name} owns a {animal}. It is {color}.",
        "The {animal} of {name} is {color}.",
        "{name} bought a {animal} that is {color}.",
        "{name} saw a {color} {animal} in the garden.",
        "This {animal} is {color} and lives with {name}.",
        "A {color} {animal} sleeps at the door of {name}.",
        "{name} and the {color} {animal} went for a walk.",
      ],
      heldout: [
        "{name} found a {color} {animal}.",
        "The {animal} is {color} and belongs to {name}.",
        "{name} has a {animal}. The {animal} is {color}.",
      ],
    },
  },
  {
    draw: (voice) => {
      const [from = "", to = ""] = voice.sample(words.CITIES, 2);
      return {
        from,
        to,
        vehicle: voice.pick(words.VEHICLES),
        day: voice.pick(words.DAYS),
      };
    },
    keys: {
      from: ["from", "origin"],
      to: ["to", "destination"],
      vehicle: ["vehicle", "by"],
      day: ["day", "date"],
    },
    sentences: {
      train: [
        "The {vehicle} goes from {from} to {to} on {day}.",
        "I travel by {vehicle} from {from} to {to} on {day}.",
        "On {day} we take the {vehicle} from {from} to {to}.",
        "A {vehicle} leaves {from} on {day} and arrives in {to}.",
        "{day}: by {vehicle} from {from} to {to}.",
        "Book me a {vehicle} to {to} from {from} for {day}.",
        "We leave {from} by {vehicle} on {day} and go to {to}.",
        "From {from} to {to} by {vehicle}, on {day}.",
        "I need a {vehicle} from {from} to {to} this {day}.",
        "This {day} the {vehicle} to {to} starts in {from}.",
      ],
      heldout: [
        "On {day} I go by {vehicle} from {from} to {to}.",
        "Please book a {vehicle} from {from} to {to} on {day}.",
        "We travel from {from} to {to} by {vehicle} on {day}.",
      ],
    },
  },
  {
    draw: (voice) => ({
      name: voice.pick(words.NAMES),
      job: voice.pick(words.JOBS),
      year: voice.integer(1950, 2029),
    }),
    keys: {
      name: ["name", "employee"],
      job: ["job", "role", "profession"],
      year: ["year", "since"],
    },
    sentences: {
      train: [
        "{name} has been a {job} since {year}.",
        "Since {year} {name} works as a {job}.",
        "{name} became a {job} in {year}.",
        "In {year}, {name} started to work as a {job}.",
        "The {job} {name} started in {year}.",
        "{name} is a {job} and began in {year}.",
        "We hired {name} as a {job} in {year}.",
        "{name}, {job}, with us since {year}.",
        "In {year} the new {job} was {name}.",
      ],
      heldout: [
        "{name} works as a {job} since {year}.",
        "{name} started as a {job} in {year}.",
        "In {year} {name} became a {job}.",
      ],
    },
  },
];

const WANTED = [
  "extract {keys} as JSON",
  "give me {keys} as JSON",
  "return {keys} as JSON",
  "write {keys} as JSON",
  "find {keys} and answer in JSON",
  "get {keys} as a JSON object",
  "write {keys} as a JSON object",
  "return JSON with {keys}",
  "make a JSON object with {keys}",
  "give {keys} in JSON",
  "list {keys} as JSON",
  "put {keys} into JSON",
  "read off {keys} as JSON",
  "answer with JSON that has {keys}",
  "extract {keys} in JSON format",
  "output {keys} as JSON",
  "turn it into JSON with {keys}",
];
const TEXT_AFTER = [
  ": {text}",
  " from this: {text}",
  " from this sentence: {text}",
  " from the text: {text}",
  ". {text}",
  ".\n{text}",
  ". Text: {text}",
  " for this: {text}",
  " from: {text}",
];
const POLITE = [
  "",
  "",
  "",
  "please ",
  "can you ",
  "could you ",
  "now ",
  "I want you to ",
];

const REQUESTS: Phrasings = {
  train: POLITE.flatMap((lead) =>
    WANTED.flatMap((wanted) => {
      const request = upperFirst(`${lead}${wanted}`);
      const end = /^C/.test(request) && lead.startsWith("c") ? "?" : ".";
      return [
        ...TEXT_AFTER.map((after) => request + after),
        ...[" ", " ", "\n"].map((gap) => `{text}${gap}${request}${end}`),
      ];
    }),
  ),
  heldout: [
    "Please extract {keys} as JSON: {text}",
    "Return a JSON object with {keys} for this text: {text}",
    "{text} Give me {keys} as a JSON object.",
    "Read the text and extract {keys} as JSON. {text}",
  ],
};

/** What may stand around the sentence, and says nothing about the record. */
const BEFORE = [
  "Note: ",
  "News: ",
  "Good morning. ",
  "Hi team. ",
  "By the way: ",
  "Hello! ",
  "FYI: ",
  "Today: ",
];
const AFTER = [" Thank you.", " See you!", " That is all.", " Best wishes."];

function clock(voice: Voice): string {
  const hour = voice.integer(7, 22);
  return `${hour}:${voice.pick(["00", "15", "30", "45", "10", "20"])}`;
}

/** JSON with a space after colon and comma, as Python's json.dumps writes it and as constrained output has it. */
export function json(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(json).join(", ")}]`;
  if (value !== null && typeof value === "object")
    return `{${Object.entries(value)
      .map(([k, v]) => `${JSON.stringify(k)}: ${json(v)}`)
      .join(", ")}}`;
  return JSON.stringify(value);
}

export function extraction(voice: Voice): Turn {
  const kind = voice.pick(KINDS);
  const values = kind.draw(voice);
  const sentence = withArticles(fill(voice.phrase(kind.sentences), values));
  const before = voice.chance(0.12) ? voice.pick(BEFORE) : "";
  const after = voice.chance(0.08) ? voice.pick(AFTER) : "";
  const text = before + sentence + after;
  const all = Object.keys(values);
  const chosen = voice.chance(0.65)
    ? all
    : voice.sample(all, voice.integer(1, all.length));
  const renamed = chosen.map((key) => {
    const names = kind.keys[key] ?? [key];
    return voice.chance(0.75) ? key : voice.pick(names);
  });
  const answer: Record<string, Value> = {};
  chosen.forEach((key, i) => (answer[renamed[i] ?? key] = values[key] ?? ""));
  const keys =
    renamed.length < 2
      ? renamed.join("")
      : `${renamed.slice(0, -1).join(", ")} and ${renamed.at(-1) ?? ""}`;
  return ask(fill(voice.phrase(REQUESTS), { keys, text }), json(answer));
}
