/** What the eval asks, and when an answer is right. */
import { addition, subtraction } from "../corpus/arithmetic.js";
import { aboutOctavo } from "../corpus/about-octavo.js";
import { knowledge } from "../corpus/knowledge.js";
import { smallTalk } from "../corpus/small-talk.js";
import { listing, repeating, reversing } from "../corpus/copying.js";
import {
  Voice,
  type Dialogue,
  type Message,
  type Turn,
} from "../corpus/dialogue.js";
import { extraction } from "../corpus/extraction.js";
import { story } from "../corpus/stories.js";
import { FAMILIES } from "../corpus/tool-families.js";
import { toolbox, toolUse } from "../corpus/tools.js";

export const SEED = 2026;

/** One question: what is asked, and whether an answer is right. */
export interface Case {
  dialogue: Dialogue;
  right: (said: string) => boolean;
}

export interface Task {
  name: string;
  /** The share that is asked for; undefined where the figure is for information. */
  target?: number;
  make: (voice: Voice) => Case;
}

const last = (turn: Turn): Message => turn.at(-1) as Message;

/** The turn's question alone, right where the answer is the expected one to the letter. */
function exact(make: (voice: Voice) => Turn): (voice: Voice) => Case {
  return (voice) => {
    const turn = make(voice);
    return {
      dialogue: { messages: turn.slice(0, -1) },
      right: (said) => said === last(turn).content,
    };
  };
}

function jsonCase(voice: Voice): Case {
  const turn = extraction(voice);
  const wanted = sorted(JSON.parse(last(turn).content));
  return {
    dialogue: { messages: turn.slice(0, -1) },
    right: (said) => sameJson(said, wanted),
  };
}

/** A request that needs one of several tools: right with its name and arguments. */
function toolCase(voice: Voice): Case {
  for (;;) {
    const tools = toolbox(voice);
    const turn = toolUse(
      voice,
      tools.filter((tool) => FAMILIES.slice(0, 3).includes(tool.family)),
    );
    const call = turn[1]?.tool_calls?.[0]?.function;
    if (call === undefined || turn[0] === undefined) continue;
    return {
      dialogue: { messages: [turn[0]], tools: tools.map((tool) => tool.tool) },
      right: (said) => {
        const match = /^<tool_call>\n(.*)\n<\/tool_call>$/s.exec(said);
        return match?.[1] !== undefined && sameJson(match[1], sorted(call));
      },
    };
  }
}

/** What is said once the tool has answered. */
function toolAnswerCase(voice: Voice): Case {
  const tools = toolbox(voice);
  const turn = toolUse(voice, tools);
  return {
    dialogue: {
      messages: turn.slice(0, -1),
      tools: tools.map((tool) => tool.tool),
    },
    right: (said) => said === last(turn).content,
  };
}

/** Small talk beside tools: right without a call. */
function noToolCase(voice: Voice): Case {
  const turn = smallTalk(voice);
  return {
    dialogue: {
      messages: turn.slice(0, 1),
      tools: toolbox(voice).map((tool) => tool.tool),
    },
    right: (said) => said !== "" && !said.includes("<tool_call>"),
  };
}

/** A question with several right answers; those of the corpus are drawn again until one matches. */
function oneOf(
  make: (voice: Voice) => Turn,
  answers: ReadonlySet<string>,
): (voice: Voice) => Case {
  return (voice) => ({
    dialogue: { messages: make(voice).slice(0, 1) },
    right: (said) => answers.has(said),
  });
}

function answersOf(make: (voice: Voice) => Turn): Set<string> {
  const voice = new Voice(SEED, false, 99);
  return new Set(
    Array.from({ length: 20_000 }, () => last(make(voice)).content),
  );
}

function storyCase(voice: Voice): Case {
  const turn = story(voice);
  const name = /called (\w+)\b/.exec(turn[0]?.content ?? "")?.[1] ?? "";
  return {
    dialogue: { messages: turn.slice(0, 1) },
    right: (said) =>
      said.endsWith("The end.") &&
      said.includes(name) &&
      said.split(". ").length >= 6,
  };
}

/** Numbered lists and counts have one right answer; "three animals" has many, so those are drawn again. */
function countingCase(voice: Voice): Case {
  for (;;) {
    const turn = listing(voice);
    if (/\d, \d/.test(last(turn).content)) return exact(() => turn)(voice);
  }
}

export const TASKS: readonly Task[] = [
  { name: "addition below 100", target: 0.9, make: exact(addition) },
  { name: "subtraction below 100", target: 0.9, make: exact(subtraction) },
  { name: "JSON from a sentence", target: 0.9, make: jsonCase },
  { name: "tool and arguments", target: 0.9, make: toolCase },
  { name: "copying", target: 0.95, make: exact(repeating) },
  { name: "reversing", make: exact(reversing) },
  { name: "counting", make: countingCase },
  { name: "answer after a tool", make: toolAnswerCase },
  { name: "no call for small talk", make: noToolCase },
  { name: "about Octavo", make: exact(aboutOctavo) },
  { name: "small facts", make: exact(knowledge) },
  { name: "small talk", make: oneOf(smallTalk, answersOf(smallTalk)) },
  { name: "story that ends", make: storyCase },
];

/** JSON with sorted keys, to compare values whatever their order. */
function sorted(value: unknown): string {
  return JSON.stringify(value, (_, inner: unknown) =>
    inner !== null && typeof inner === "object" && !Array.isArray(inner)
      ? Object.fromEntries(
          Object.entries(inner).sort(([a], [b]) => (a < b ? -1 : 1)),
        )
      : inner,
  );
}

function sameJson(said: string, wanted: string): boolean {
  try {
    return sorted(JSON.parse(said)) === wanted;
  } catch {
    return false;
  }
}
