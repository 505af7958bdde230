import { fill, typed, type Tool, type Turn, type Voice } from "./dialogue.js";
import { json } from "./extraction.js";
import { FAMILIES, type Arguments, type Family } from "./tool-families.js";

/** A family under the names that one conversation gives it. */
export interface NamedTool {
  family: Family;
  tool: Tool;
  /** The family's parameter -> its name here. */
  rename: Record<string, string>;
}

export function named(voice: Voice, family: Family): NamedTool {
  const rename: Record<string, string> = {};
  const properties: Record<string, unknown> = {};
  for (const [key, parameter] of Object.entries(family.parameters)) {
    const name = voice.chance(0.6) ? key : voice.pick(parameter.names);
    rename[key] = name;
    properties[name] = voice.chance(0.75)
      ? { type: parameter.type, description: parameter.description }
      : { type: parameter.type };
  }
  const name = voice.chance(0.5)
    ? (family.names[0] ?? "")
    : voice.pick(family.names);
  return {
    family,
    rename,
    tool: {
      type: "function",
      function: {
        name,
        description: voice.pick(family.descriptions),
        parameters: {
          type: "object",
          properties,
          required: Object.values(rename),
        },
      },
    },
  };
}

/** One to four tools; weather, calculator and clock come most often. */
export function toolbox(voice: Voice): NamedTool[] {
  const main = FAMILIES.slice(0, 3);
  const families = voice.sample(main, voice.integer(1, 3));
  const others = voice.sample(
    FAMILIES.slice(3),
    voice.pick([0, 0, 0, 1, 1, 2]),
  );
  return voice
    .sample([...families, ...others], 5)
    .slice(0, 4)
    .map((family) => named(voice, family));
}

function call(tool: NamedTool, given: Arguments): Turn[number] {
  const renamed = Object.fromEntries(
    Object.entries(given).map(([key, value]) => [
      tool.rename[key] ?? key,
      value,
    ]),
  );
  return {
    role: "assistant",
    content: "",
    tool_calls: [
      {
        type: "function",
        function: { name: tool.tool.function.name, arguments: renamed },
      },
    ],
  };
}

function answered(voice: Voice, tool: NamedTool, given: Arguments): Turn {
  const result = tool.family.result(voice, given);
  return [
    call(tool, given),
    { role: "tool", content: json(result) },
    { role: "assistant", content: tool.family.say(given, result) },
  ];
}

/** Request, call, result, answer; sometimes a follow-up such as "And in Rome?". */
export function toolUse(voice: Voice, tools: readonly NamedTool[]): Turn {
  const tool = voice.pick(tools);
  const given = tool.family.draw(voice);
  const turn: Turn = [
    {
      role: "user",
      content: typed(voice, fill(voice.phrase(tool.family.requests), given)),
    },
    ...answered(voice, tool, given),
  ];
  const followUps = tool.family.followUps;
  if (!voice.heldout && followUps && voice.chance(0.35)) {
    const next = tool.family.draw(voice);
    turn.push(
      {
        role: "user",
        content: typed(voice, fill(voice.pick(followUps), next)),
      },
      ...answered(voice, tool, next),
    );
  }
  return turn;
}

const NO_TOOL: Record<string, string> = {
  get_weather: "I can't see the weather: I have no tool for that here.",
  get_time: "I can't see a clock: I have no tool for that here.",
  set_timer: "I can't set a timer: I have no tool for that here.",
  search: "I can't search the web: I have no tool for that here.",
  send_message: "I can't send messages: I have no tool for that here.",
  play_music: "I can't play music: I have no tool for that here.",
  get_price: "I don't know prices: I have no tool for that here.",
};

/** A request for a tool that isn't there. */
export function missingTool(voice: Voice, tools: readonly NamedTool[]): Turn {
  const absent = FAMILIES.filter(
    (family) =>
      NO_TOOL[family.names[0] ?? ""] !== undefined &&
      !tools.some((tool) => tool.family === family),
  );
  const family = voice.pick(absent);
  const request = typed(
    voice,
    fill(voice.phrase(family.requests), family.draw(voice)),
  );
  return [
    { role: "user", content: request },
    { role: "assistant", content: NO_TOOL[family.names[0] ?? ""] ?? "" },
  ];
}
