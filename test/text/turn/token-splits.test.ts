/** Outputs cut where the tokens of real tokenizers end, as the server gets them: what is found is what the whole text has. */
import { expect, it } from "vitest";
import { REASONING_FORMATS } from "../../../src/text/turn/reasoning.js";
import { loadTokenizer, type Tokenizer } from "../../../src/text/tokenizer.js";
import { describeWithShared, shared } from "../shared-data.js";
import { formatOf, parse, type ParseOptions } from "./support.js";

const JSON_CALL =
  '{"name": "get_weather", "arguments": {"city": "Zürich 🌦", "note": "a </tool_call> \\"b\\" {[<"}}';
const LLAMA_CALL = JSON_CALL.replace('"arguments"', '"parameters"');

/** [format, what the model says, how many calls are in it] */
const OUTPUTS: readonly [string, string, number][] = [
  ["hermes", "1 < 2, <tool_ok>, <tool_cal 日本 and 🌦.\n", 0],
  [
    "hermes",
    `I look.\n<tool_call>\n${JSON_CALL}\n</tool_call>\n<tool_call>\n{"name": "ping"}\n</tool_call>`,
    2,
  ],
  ["llama3_json", `${LLAMA_CALL}; {"name": "ping", "parameters": {}}`, 2],
  [
    "mistral",
    `[TOOL_CALLS] [${JSON_CALL}, {"name": "ping", "arguments": {}}]`,
    2,
  ],
  ["pythonic", "[get_weather(city='Zürich 🌦', days=[1, 2]), ping()]", 2],
  [
    "qwen3_xml",
    "Well.\n<tool_call>\n<function=get_weather>\n<parameter=city>\nZürich < 🌦\n</parameter>\n</function>\n</tool_call>",
    1,
  ],
  [
    "deepseek_v3",
    '<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>get_weather\n```json\n{"city": "Köln"}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>',
    1,
  ],
  [
    "glm45",
    "<tool_call>get_weather<arg_key>city</arg_key><arg_value>Zürich 🌦</arg_value></tool_call>",
    1,
  ],
];

/** The texts that the tokens add, `size` of them together, and what is left at the end. */
async function piecesOf(
  tokenizer: Tokenizer,
  text: string,
  size: number,
): Promise<string[]> {
  const ids = await tokenizer.encode(text, { addSpecialTokens: false });
  const detokenizer = tokenizer.createDetokenizer({ skipSpecialTokens: false });
  const pieces: string[] = [];
  ids.forEach((id, i) => {
    const piece = detokenizer.push(id);
    if (i % size === 0) pieces.push(piece);
    else pieces[pieces.length - 1] += piece;
  });
  return [...pieces, detokenizer.end()];
}

describeWithShared("tokenizers", "cut at tokens", () => {
  it.each(["qwen2", "llama3", "llama2", "mistral", "gpt2"])(
    "of %s",
    async (name) => {
      const tokenizer = await loadTokenizer(shared(`tokenizers/${name}`));
      const format = REASONING_FORMATS["qwen3"];
      if (format === undefined) throw new Error("no such format");
      // Their alphabet has ▁ for a space, so that DeepSeek's markers are none of their texts.
      const metaspace = name === "llama2" || name === "mistral";
      const outputs = OUTPUTS.filter(
        ([parser]) => !metaspace || parser !== "deepseek_v3",
      );
      for (const [parser, output, numCalls] of outputs)
        for (const thought of [
          "",
          "<think>\nIs it </thin warm? 🌦\n</think>\n\n",
        ]) {
          const text = thought + output;
          const options: ParseOptions =
            thought === "" ? {} : { reasoning: { format, begun: false } };
          for (const size of [1, 2, 5]) {
            const pieces = await piecesOf(tokenizer, text, size);
            const whole = pieces.join("");
            expect(whole.trimStart()).toBe(text);
            const turn = parse(formatOf(parser), [whole], options);
            expect(turn.calls).toHaveLength(numCalls);
            expect(turn.reasoning === "").toBe(thought === "");
            expect(pieces.length).toBeGreaterThan(4);
            expect(parse(formatOf(parser), pieces, options)).toEqual(turn);
          }
        }
    },
  );
});
