import {
  ask,
  fill,
  typed,
  type Phrasings,
  type Turn,
  type Voice,
} from "./dialogue.js";
import { phrasings } from "./phrasing.js";
import type { Topic } from "./topic.js";
import * as words from "./words.js";

const CAPITALS: Record<string, string> = {
  France: "Paris",
  Germany: "Berlin",
  Italy: "Rome",
  Spain: "Madrid",
  Portugal: "Lisbon",
  Austria: "Vienna",
  Ireland: "Dublin",
  Norway: "Oslo",
  Sweden: "Stockholm",
  Finland: "Helsinki",
  Denmark: "Copenhagen",
  Poland: "Warsaw",
  Hungary: "Budapest",
  Greece: "Athens",
  Egypt: "Cairo",
  Japan: "Tokyo",
  China: "Beijing",
  Thailand: "Bangkok",
  Vietnam: "Hanoi",
  Indonesia: "Jakarta",
  Australia: "Canberra",
  Canada: "Ottawa",
  Peru: "Lima",
  Kenya: "Nairobi",
  Cuba: "Havana",
  Russia: "Moscow",
  Ukraine: "Kyiv",
  Belgium: "Brussels",
  England: "London",
  India: "New Delhi",
};

const CAPITAL_OF = phrasings({
  nouns: ["the capital of {x}", "the capital city of {x}"],
  sentences: [
    "What is the capital of {x}?",
    "What's the capital of {x}?",
    "Capital of {x}?",
    "Which city is the capital of {x}?",
    "Tell me the capital of {x}.",
    "Name the capital of {x}.",
  ],
  heldout: ["Do you know the capital of {x}?", "Which is the capital of {x}?"],
});

const OPPOSITES: readonly (readonly [string, string])[] = [
  ["big", "small"],
  ["hot", "cold"],
  ["old", "new"],
  ["happy", "sad"],
  ["fast", "slow"],
  ["long", "short"],
  ["light", "dark"],
  ["up", "down"],
  ["left", "right"],
  ["day", "night"],
  ["open", "closed"],
  ["full", "empty"],
  ["wet", "dry"],
  ["high", "low"],
  ["hard", "soft"],
  ["early", "late"],
  ["loud", "quiet"],
  ["rich", "poor"],
];

const OPPOSITE_OF = phrasings({
  nouns: ["the opposite of {x}", "the opposite of the word {x}"],
  sentences: [
    "What is the opposite of {x}?",
    "Opposite of {x}?",
    "Tell me the opposite of {x}.",
    "What's the opposite of {x}?",
    "Give me the opposite of {x}.",
  ],
  heldout: [
    "Do you know the opposite of {x}?",
    "Which word is the opposite of {x}?",
  ],
});

const COMMON: readonly Topic[] = [
  {
    ask: {
      train: [
        "How many days are in a week?",
        "How many days does a week have?",
        "How many days has a week?",
      ],
      heldout: ["Can you tell me how many days a week has?"],
    },
    answers: ["A week has seven days."],
  },
  {
    ask: {
      train: [
        "How many months are in a year?",
        "How many months does a year have?",
      ],
      heldout: ["Tell me how many months a year has."],
    },
    answers: ["A year has twelve months."],
  },
  {
    ask: {
      train: [
        "What color is the sky?",
        "Which color is the sky?",
        "Why is the sky blue?",
      ],
      heldout: ["What color does the sky have?"],
    },
    answers: ["The sky is blue."],
  },
  {
    ask: {
      train: [
        "How many legs does a spider have?",
        "How many legs has a spider?",
      ],
      heldout: ["Tell me how many legs a spider has."],
    },
    answers: ["A spider has eight legs."],
  },
  {
    ask: {
      train: [
        "How many hours are in a day?",
        "How many hours does a day have?",
      ],
      heldout: ["Tell me how many hours a day has."],
    },
    answers: ["A day has 24 hours."],
  },
  {
    ask: {
      train: ["What do cows drink?", "What do cats like to drink?"],
      heldout: ["What does a cow drink?"],
    },
    answers: ["Water."],
  },
  {
    ask: {
      train: ["What comes after Monday?", "Which day comes after Monday?"],
      heldout: ["What day follows Monday?"],
    },
    answers: ["Tuesday comes after Monday."],
  },
];

const UNKNOWN: Phrasings = {
  train: [
    "Who won the {x} game last year?",
    "What is the population of {x}?",
    "Who is the mayor of {x}?",
    "Who is the president of {x}?",
    "How far is it to {x}?",
    "When was {x} founded?",
    "Who wrote the book about {x}?",
    "What happened in {x} in 1950?",
    "What is the phone number of {x}?",
    "Explain quantum physics.",
    "Explain the theory of relativity.",
    "What is the meaning of life?",
    "Write a program that sorts numbers.",
    "Write code in Python.",
    "Who will win the next election?",
    "What did I do yesterday?",
    "How old is the universe?",
    "Translate this into French.",
    "What is the best hotel in {x}?",
    "How do I fix my car?",
    "What should I invest in?",
    "Who invented the telephone?",
    "What is the square root of 2?",
    "Who painted the famous picture in {x}?",
    "What is the news today?",
    "Write an essay about {x}.",
    "How do I cook {y}?",
    "What is {y} made of?",
    "What is DNA?",
    "How does a rocket work?",
    "Who is the richest person?",
    "Why do cats purr?",
    "What is a black hole?",
    "When does the {y} shop open?",
    "What do you think about {x}?",
    "Who was the first king of {x}?",
    "How many people live in {x}?",
    "What language do they speak in {x}?",
    "How tall is the tower in {x}?",
    "What is the history of {x}?",
    "Is {y} healthy?",
    "How do planes fly?",
  ],
  heldout: [
    "Who is the king of {x}?",
    "How old is the city of {x}?",
    "Explain how a computer chip works.",
    "Write a poem in German about {x}.",
    "Who discovered gravity?",
    "Where can I buy cheap {y}?",
    "What is the area of {x}?",
    "How do submarines work?",
  ],
};

const UNKNOWN_ANSWERS = [
  "I don't know that. I am a very small model and know only a few things.",
  "I am sorry, I don't know. A larger model could tell you.",
];

export function knowledge(voice: Voice): Turn {
  const kind = voice.uniform();
  if (kind < 0.55) {
    const country = voice.pick(Object.keys(CAPITALS));
    return ask(
      typed(voice, fill(voice.phrase(CAPITAL_OF), { x: country })),
      `The capital of ${country} is ${CAPITALS[country] ?? ""}.`,
    );
  }
  if (kind < 0.8) {
    const pair = voice.pick(OPPOSITES);
    const [x, opposite] = voice.chance(0.5)
      ? pair
      : ([pair[1], pair[0]] as const);
    return ask(
      typed(voice, fill(voice.phrase(OPPOSITE_OF), { x })),
      `The opposite of ${x} is ${opposite}.`,
    );
  }
  const topic = voice.pick(COMMON);
  return ask(typed(voice, voice.phrase(topic.ask)), voice.pick(topic.answers));
}

export function unknown(voice: Voice): Turn {
  const question = fill(voice.phrase(UNKNOWN), {
    x: voice.pick([...words.CITIES, ...Object.keys(CAPITALS)]),
    y: voice.pick([...words.FOODS, ...words.THINGS]),
  });
  return ask(typed(voice, question), voice.pick(UNKNOWN_ANSWERS));
}

/** Numbers beyond what the model learned. */
export function largeNumbers(voice: Voice): Turn {
  const [a, b] = [voice.integer(100, 9999), voice.integer(10, 9999)];
  const operator = voice.pick(["+", "-", "*", "plus", "minus", "times"]);
  return ask(
    typed(
      voice,
      voice.pick([
        `What is ${a} ${operator} ${b}?`,
        `Calculate ${a} ${operator} ${b}.`,
        `${a} ${operator} ${b}`,
        `How much is ${b} ${operator} ${a}?`,
      ]),
    ),
    "That is too large for me: I can only do sums with numbers below 100. With a calculator tool I could do it.",
  );
}
