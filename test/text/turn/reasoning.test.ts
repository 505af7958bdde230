import { describe, expect, it } from "vitest";
import {
  beginsReasoning,
  detectReasoning,
  REASONING_FORMATS,
  type ReasoningFormat,
} from "../../../src/text/turn/reasoning.js";
import { allSplits, formatOf, parse } from "./support.js";

function reasoningFormat(name: string): ReasoningFormat {
  const format = REASONING_FORMATS[name];
  if (format === undefined) throw new Error(`no format ${name}`);
  return format;
}
const THINK = reasoningFormat("qwen3");

describe("reasoning", () => {
  it.each([
    [
      "marked",
      false,
      "\n<think>\nhm, é\n</think>\n\nYes.\n",
      "hm, é",
      "Yes.\n",
    ],
    [
      "begun by the prompt",
      true,
      "\nhm\n\nso\n</think>\n\nYes.",
      "hm\n\nso",
      "Yes.",
    ],
    ["none", false, " Yes <think>no</think>", "", " Yes <think>no</think>"],
    ["empty", false, "<think>\n\n</think>\n\nYes.", "", "Yes."],
    ["cut off", true, "hm </thi", "hm </thi", ""],
    ["without an answer", false, "<think>hm</think>\n", "hm", ""],
    ["half a marker", false, " <thin", "", " <thin"],
    ["white space alone", false, "\n ", "", "\n "],
  ])("%s, however it is cut", (_, begun, output, reasoning, text) => {
    const options = { reasoning: { format: THINK, begun } };
    const expected = { reasoning, text, calls: [] };
    for (const pieces of [[output], ...allSplits(output)])
      expect(parse(null, pieces, options), JSON.stringify(pieces)).toEqual(
        expected,
      );
  });

  it("comes before calls, and a call inside of it is none", () => {
    const output =
      '<think>Say <tool_call>{"name": "ping"}</tool_call>?</think>\n<tool_call>\n{"name": "ping"}\n</tool_call>';
    const options = { reasoning: { format: THINK, begun: false } };
    for (const pieces of [[output], ...allSplits(output)])
      expect(parse(formatOf("hermes"), pieces, options)).toEqual({
        reasoning: 'Say <tool_call>{"name": "ping"}</tool_call>?',
        text: "",
        calls: [{ name: "ping", arguments: "{}" }],
      });
  });

  it("begins with the output where the prompt says so", () => {
    const implicit = reasoningFormat("deepseek_r1");
    expect(beginsReasoning(THINK, "assistant\n<think>\n")).toBe(true);
    expect(beginsReasoning(THINK, "assistant\n")).toBe(false);
    expect(beginsReasoning(THINK, "<think>\n\n</think>\n\n")).toBe(false);
    expect(beginsReasoning(implicit, "assistant\n")).toBe(true);
    expect(beginsReasoning(implicit, "<think>\n</think>\n")).toBe(false);
  });

  it("is read off what the template prints", () => {
    expect(detectReasoning(["a", "x</think>"])).toBe(THINK);
    expect(detectReasoning(["[/THINK]"])).toBe(reasoningFormat("mistral"));
    expect(detectReasoning(["plain"])).toBeNull();
  });
});
