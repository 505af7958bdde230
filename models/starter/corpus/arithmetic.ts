import { ask, fill, typed, type Turn, type Voice } from "./dialogue.js";
import { phrasings } from "./phrasing.js";
import { FRUITS, NAMES } from "./words.js";

const PLUS = phrasings({
  nouns: [
    "{a} + {b}",
    "{a} plus {b}",
    "{a}+{b}",
    "the sum of {a} and {b}",
    "{a} and {b} together",
    "the result of {a} + {b}",
    "the value of {a} + {b}",
  ],
  commands: [
    "add {a} and {b}",
    "add {b} to {a}",
    "calculate {a} + {b}",
    "compute {a} + {b}",
    "work out {a} + {b}",
    "solve {a} + {b}",
    "sum {a} and {b}",
    "calculate {a} plus {b}",
  ],
  sentences: [
    "What is {a} + {b}?",
    "What is {a} plus {b}?",
    "What's {a} + {b}?",
    "{a} + {b}",
    "{a} + {b} = ?",
    "{a}+{b}",
    "Add {a} and {b}.",
    "Calculate {a} + {b}.",
    "How much is {a} + {b}?",
    "How much is {a} plus {b}?",
    "Can you add {a} and {b}?",
    "Compute {a} + {b}.",
    "Tell me {a} + {b}.",
    "{a} plus {b}",
    "What do you get when you add {a} and {b}?",
    "What is the sum of {a} and {b}?",
    "Solve {a} + {b}.",
    "What is {a}+{b}?",
  ],
  heldout: [
    "What does {a} + {b} make?",
    "Please work out {a} plus {b}.",
    "Can you tell me what {a} + {b} is?",
    "I need the sum of {a} and {b}.",
    "{a} plus {b} is what?",
  ],
});

const MINUS = phrasings({
  nouns: [
    "{a} - {b}",
    "{a} minus {b}",
    "{a}-{b}",
    "the difference of {a} and {b}",
    "{a} less {b}",
    "the result of {a} - {b}",
    "the value of {a} - {b}",
  ],
  commands: [
    "subtract {b} from {a}",
    "take {b} from {a}",
    "take {b} away from {a}",
    "calculate {a} - {b}",
    "compute {a} - {b}",
    "work out {a} - {b}",
    "solve {a} - {b}",
    "calculate {a} minus {b}",
  ],
  sentences: [
    "What is {a} - {b}?",
    "What is {a} minus {b}?",
    "What's {a} - {b}?",
    "{a} - {b}",
    "{a} - {b} = ?",
    "{a}-{b}",
    "Subtract {b} from {a}.",
    "Calculate {a} - {b}.",
    "How much is {a} - {b}?",
    "How much is {a} minus {b}?",
    "Can you take {b} from {a}?",
    "Compute {a} - {b}.",
    "Tell me {a} - {b}.",
    "{a} minus {b}",
    "What do you get when you take {b} from {a}?",
    "What is the difference of {a} and {b}?",
    "Solve {a} - {b}.",
    "What is {a}-{b}?",
  ],
  heldout: [
    "What does {a} - {b} make?",
    "Please work out {a} minus {b}.",
    "Can you tell me what {a} - {b} is?",
    "I need {a} minus {b}.",
    "{a} minus {b} is what?",
  ],
});

const TIMES = phrasings({
  nouns: [
    "{a} * {b}",
    "{a} times {b}",
    "{a}*{b}",
    "{a} x {b}",
    "the product of {a} and {b}",
    "the result of {a} * {b}",
  ],
  commands: [
    "multiply {a} by {b}",
    "multiply {a} and {b}",
    "calculate {a} * {b}",
    "compute {a} * {b}",
    "work out {a} * {b}",
    "calculate {a} times {b}",
  ],
  sentences: [
    "What is {a} * {b}?",
    "What is {a} times {b}?",
    "What's {a} x {b}?",
    "{a} * {b}",
    "{a} * {b} = ?",
    "Multiply {a} by {b}.",
    "Calculate {a} * {b}.",
    "How much is {a} times {b}?",
    "Compute {a} * {b}.",
    "{a} times {b}",
    "What is {a}*{b}?",
  ],
  heldout: [
    "Please work out {a} times {b}.",
    "Can you tell me what {a} * {b} is?",
    "{a} times {b} is what?",
  ],
});

/** One in ten pairs of numbers is kept for the eval. */
export function isHeldOutPair(a: number, b: number): boolean {
  return (Math.imul(a * 131 + b, 0x9e3779b1) >>> 16) % 10 === 3;
}

function pair(voice: Voice): [number, number] {
  for (;;) {
    const a = voice.integer(voice.chance(0.15) ? 0 : 10, 99);
    const b = voice.integer(voice.chance(0.25) ? 0 : 10, 99);
    if (isHeldOutPair(a, b) === voice.heldout) return [a, b];
  }
}

export function addition(voice: Voice): Turn {
  const [a, b] = pair(voice);
  return ask(
    typed(voice, fill(voice.phrase(PLUS), { a, b })),
    `${a} + ${b} = ${a + b}.`,
  );
}

/** One in six has a negative result. */
export function subtraction(voice: Voice): Turn {
  const negative = voice.chance(1 / 6);
  let [a, b] = pair(voice);
  while (a < b !== negative) [a, b] = pair(voice);
  return ask(
    typed(voice, fill(voice.phrase(MINUS), { a, b })),
    `${a} - ${b} = ${a - b}.`,
  );
}

/** The tables up to 12: all of them are trained on, so only their phrasings are held out. */
export function multiplication(voice: Voice): Turn {
  const [a, b] = [voice.integer(0, 12), voice.integer(0, 12)];
  return ask(
    typed(voice, fill(voice.phrase(TIMES), { a, b })),
    `${a} * ${b} = ${a * b}.`,
  );
}

export function wordProblem(voice: Voice): Turn {
  const name = voice.pick(NAMES);
  const fruit = voice.pick(FRUITS);
  const things =
    fruit === "cherry"
      ? "cherries"
      : fruit === "peach"
        ? "peaches"
        : `${fruit}s`;
  const [a, b] = [voice.integer(2, 30), voice.integer(1, 20)];
  if (voice.chance(0.5) || b > a)
    return ask(
      typed(
        voice,
        `${name} has ${a} ${things} and gets ${b} more. How many ${things} does ${name} have now?`,
      ),
      `${a} + ${b} = ${a + b}. ${name} has ${a + b} ${things}.`,
    );
  return ask(
    typed(
      voice,
      `${name} has ${a} ${things} and gives away ${b}. How many ${things} are left?`,
    ),
    `${a} - ${b} = ${a - b}. ${name} has ${a - b} ${things} left.`,
  );
}
