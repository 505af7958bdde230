/** What is read off published chat templates, and that it is what the parser reads. */
import { expect, it } from "vitest";
import { loadChatTemplate } from "../../../src/text/chat-template.js";
import { dialectOf } from "../../../src/text/turn/dialect.js";
import {
  TOOL_CALL_FORMATS,
  type ToolCallFormat,
} from "../../../src/text/turn/tool-call-format.js";
import {
  describeWithShared,
  modelDir,
  readJson,
  shared,
} from "../shared-data.js";
import { parse } from "./support.js";

interface Vectors {
  readonly custom: Record<
    string,
    {
      readonly chat_template: string;
      readonly data: {
        readonly bos_token?: string;
        readonly eos_token?: string;
      };
    }
  >;
}

const named = (name: string): Partial<ToolCallFormat> => {
  const {
    single: _,
    shortIds: __,
    hints: ___,
    ...rest
  } = TOOL_CALL_FORMATS[name] ?? {};
  return rest;
};
const nemo = {
  ...named("mistral"),
  sectionBegin: "[TOOL_CALLS][",
  shortIds: true,
};
const llama = { ...named("llama3_json"), separator: "", single: true };
const cohere = {
  sectionBegin: "<|START_ACTION|>[",
  sectionEnd: "\n]<|END_ACTION|>",
  payload: { kind: "json", nameKey: "tool_name", argumentsKey: "parameters" },
};

describeWithShared("chat-templates/jinja", "published templates", () => {
  it.each([
    ["Qwen-Qwen2.5-7B-Instruct", named("hermes")],
    ["NousResearch-Hermes-2-Pro-Llama-3-8B-tool_use", named("hermes")],
    ["NousResearch-Hermes-3-Llama-3.1-8B-tool_use", named("hermes")],
    ["meta-llama-Llama-3.1-8B-Instruct", llama],
    ["meta-llama-Llama-3.3-70B-Instruct", llama],
    ["mistralai-Mistral-Nemo-Instruct-2407", nemo],
    ["CohereForAI-c4ai-command-r7b-12-2024-tool_use", cohere],
    [
      "meetkai-functionary-medium-v3.1",
      { callBegin: "<function=", payload: { kind: "named", between: ">" } },
    ],
    ["llama-cpp-deepseek-r1", named("deepseek_v3")],
    ["google-gemma-2-2b-it", null],
    ["microsoft-Phi-3.5-mini-instruct", null],
    // Calls that begin in the prompt are not understood.
    ["meetkai-functionary-medium-v3.2", null],
  ])("%s", async (name, expected) => {
    const template = await loadChatTemplate(
      modelDir({
        "tokenizer_config.json": { bos_token: "<s>", eos_token: "</s>" },
      }),
      shared(`chat-templates/jinja/${name}.jinja`),
    );
    const { calls } = dialectOf(template);
    if (expected === null) expect(calls).toBeNull();
    else expect(calls).toMatchObject(expected);
  });
});

describeWithShared(
  "chat-templates/e2e_vectors.json",
  "templates of models",
  () => {
    const { custom } = readJson<Vectors>(
      shared("chat-templates/e2e_vectors.json"),
    );

    it.each([
      ["Qwen/Qwen3-0.6B", "hermes", "</think>", true],
      ["Qwen/Qwen3.5-4B", "qwen3_xml", "</think>", true],
      ["zai-org/GLM-5.1", "glm45", "</think>", true],
      ["deepseek-ai/DeepSeek-R1", "deepseek_v3", "</think>", false],
      [
        "mistralai/Mistral-7B-Instruct-v0.3 (JSON Schema)",
        "mistral",
        null,
        true,
      ],
      [
        "CohereLabs/command-a-reasoning-08-2025",
        null,
        "<|END_THINKING|>",
        true,
      ],
      ["HuggingFaceH4/zephyr-7b-gemma-v0.1", null, null, false],
    ])("%s", async (name, format, reasoningEnd, printsTools) => {
      const vector = custom[name];
      const { bos_token = "<s>", eos_token = "</s>" } = vector?.data ?? {};
      const chat_template = vector?.chat_template;
      const dialect = dialectOf(
        await loadChatTemplate(
          modelDir({
            "tokenizer_config.json": { bos_token, eos_token, chat_template },
          }),
        ),
      );
      if (format !== null) expect(dialect.calls).toMatchObject(named(format));
      expect(dialect.reasoning?.end ?? null).toBe(reasoningEnd);
      expect(dialect.printsTools).toBe(printsTools);
    });
  },
);

it("the built-in model's template", async () => {
  const template = await loadChatTemplate("models/starter");
  const dialect = dialectOf(template);
  expect(dialect).toMatchObject({
    calls: { ...named("hermes"), single: false },
    reasoning: null,
    printsTools: true,
  });
});

it.each([
  ["", '[TOOL_CALLS]f{"a": 1}[TOOL_CALLS]g{}'],
  ["[ARGS]", '[TOOL_CALLS]f[ARGS]{"a": 1}[TOOL_CALLS]g[ARGS]{}'],
])(
  "a parser by name reads its family's calls as the template writes them: name%s{}",
  async (between, output) => {
    const template = await loadChatTemplate(
      modelDir({}),
      "{{ tools | tojson }}{% for m in messages %}{{ m.content or '' }}{% for c in m.tool_calls or [] %}" +
        `[TOOL_CALLS]{{ c.function.name }}${between}{{ c.function.arguments | tojson }}` +
        "{% endfor %}{% endfor %}",
    );
    const { calls } = dialectOf(template, { toolCallParser: "mistral" });
    expect(parse(calls, [output]).calls).toEqual([
      { name: "f", arguments: '{"a": 1}' },
      { name: "g", arguments: "{}" },
    ]);
    const older = await loadChatTemplate(modelDir({}), "{{ messages }}");
    const list = dialectOf(older, { toolCallParser: "mistral" }).calls;
    expect(list).toBe(TOOL_CALL_FORMATS["mistral"]);
  },
);

it("a parser by name wins over the template; an unknown one is refused", async () => {
  const template = await loadChatTemplate(modelDir({}), "{{ messages }}");
  expect(dialectOf(template, { toolCallParser: "hermes" }).calls).toBe(
    TOOL_CALL_FORMATS["hermes"],
  );
  expect(
    dialectOf(template, { reasoningParser: "qwen3" }).reasoning?.start,
  ).toBe("<think>");
  expect(() => dialectOf(template, { toolCallParser: "x" })).toThrow(
    /--tool-call-parser: expected one of auto, none, hermes/,
  );
});
