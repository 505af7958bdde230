import {
  addition,
  multiplication,
  subtraction,
  wordProblem,
} from "./arithmetic.js";
import { aboutOctavo } from "./about-octavo.js";
import { introduction, smallTalk } from "./small-talk.js";
import { knowledge, largeNumbers, unknown } from "./knowledge.js";
import { listing, repeating, reversing } from "./copying.js";
import type { Dialogue, Message, Turn, Voice } from "./dialogue.js";
import { extraction } from "./extraction.js";
import { story, storyText } from "./stories.js";
import { missingTool, toolbox, toolUse } from "./tools.js";
import { CITIES, NAMES } from "./words.js";

/** How often a task is drawn, in conversations without and with tools. */
interface Weighted {
  weight: number;
  make: (voice: Voice) => Turn;
}

const PLAIN: readonly Weighted[] = [
  { weight: 12, make: addition },
  { weight: 17, make: subtraction },
  { weight: 5, make: multiplication },
  { weight: 2, make: wordProblem },
  { weight: 1, make: largeNumbers },
  { weight: 22, make: repeating },
  { weight: 8, make: reversing },
  { weight: 9, make: listing },
  { weight: 18, make: extraction },
  { weight: 8, make: smallTalk },
  { weight: 6, make: aboutOctavo },
  { weight: 3, make: knowledge },
  { weight: 3, make: unknown },
  { weight: 2, make: introduction },
  { weight: 4, make: story },
  { weight: 1, make: (voice) => missingTool(voice, []) },
];

const BESIDE_TOOLS: readonly Weighted[] = [
  { weight: 4, make: smallTalk },
  { weight: 2, make: aboutOctavo },
  { weight: 2, make: knowledge },
  { weight: 1, make: story },
  { weight: 2, make: repeating },
  { weight: 2, make: extraction },
  { weight: 1, make: unknown },
];

const SYSTEM = [
  "You are a helpful assistant.",
  "You are a helpful assistant.",
  "You are a friendly assistant.",
  "Be short and clear.",
  "You are a kind teacher.",
  "Answer the question.",
  "You are Octavo's starter model.",
  "You help people with small tasks.",
  "Be polite.",
  "You are a careful assistant. Answer with facts.",
  "Follow the instructions of the user.",
  "You work for a small company in {city}.",
  "The user's name is {name}.",
  "You are an assistant in a shop.",
  "Use the tools when they help.",
  "Always answer in English.",
  "Think before you answer.",
  "You are an expert.",
];

function draw(voice: Voice, tasks: readonly Weighted[]): Turn {
  const total = tasks.reduce((sum, task) => sum + task.weight, 0);
  let at = voice.uniform() * total;
  for (const task of tasks) {
    at -= task.weight;
    if (at < 0) return task.make(voice);
  }
  throw new RangeError("no task has a weight");
}

/** A conversation of `turns` tasks; one in three has tools. */
export function dialogue(voice: Voice, turns: number): Dialogue {
  const messages: Message[] = [];
  if (voice.chance(0.3))
    messages.push({
      role: "system",
      content: voice
        .pick(SYSTEM)
        .replace("{city}", voice.pick(CITIES))
        .replace("{name}", voice.pick(NAMES)),
    });
  if (!voice.chance(0.36)) {
    for (let i = 0; i < turns; i++) messages.push(...draw(voice, PLAIN));
    return { messages };
  }
  const tools = toolbox(voice);
  for (let i = 0; i < turns; i++) {
    const kind = voice.uniform();
    messages.push(
      ...(kind < 0.88
        ? toolUse(voice, tools)
        : kind < 0.89
          ? missingTool(voice, tools)
          : draw(voice, BESIDE_TOOLS)),
    );
  }
  return { messages, tools: tools.map((tool) => tool.tool) };
}

/** A story without a conversation around it, for /v1/completions. */
export function plainText(voice: Voice): string {
  return storyText(voice);
}
