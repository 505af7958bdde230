import { mkdirSync, writeFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { OctavoError } from "../../src/core/errors.js";
import {
  loadChatTemplate,
  type ChatMessage,
  type RenderOptions,
} from "../../src/text/chat-template.js";
import { modelDir } from "./shared-data.js";

const CHATML =
  "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}" +
  "{% if add_generation_prompt %}<|assistant|>{% endif %}";
const PARTS =
  "{% for m in messages %}{% for part in m['content'] %}[{{ part.type }}:{{ part.text }}]{% endfor %}{% endfor %}";
const BOTH =
  "{% macro show(c) %}{% if c is string %}{{ c }}{% else %}{% for p in c %}({{ p['text'] }}){% endfor %}{% endif %}{% endmacro %}" +
  "{% for m in messages %}{{ show(m.content) }}{% endfor %}";

const HELLO: ChatMessage[] = [{ role: "user", content: "Hello" }];

/** Renders with a template given as --chat-template. */
async function render(
  template: string,
  messages: ChatMessage[] = HELLO,
  options: RenderOptions = {},
): Promise<string> {
  return (await loadChatTemplate(modelDir({}), template)).render(
    messages,
    options,
  );
}

async function failure(promise: Promise<unknown>): Promise<OctavoError> {
  try {
    await promise;
  } catch (error) {
    if (error instanceof OctavoError) return error;
    throw error;
  }
  throw new Error("expected an OctavoError");
}

describe("where the template comes from", () => {
  const config = { chat_template: "config {{ messages[0].content }}" };

  it("tokenizer_config.json", async () => {
    const template = await loadChatTemplate(
      modelDir({ "tokenizer_config.json": config }),
    );
    expect(template.available).toBe(true);
    expect(template.render(HELLO)).toBe("config Hello");
  });

  it("chat_template.jinja before it", async () => {
    const files = {
      "tokenizer_config.json": config,
      "chat_template.jinja": "file {{ messages[0].content }}",
    };
    expect((await loadChatTemplate(modelDir(files))).render(HELLO)).toBe(
      "file Hello",
    );
  });

  it("--chat-template before both, as a file or as text", async () => {
    const folder = modelDir({
      "tokenizer_config.json": config,
      "mine.jinja": "mine {{ messages[0].content }}",
    });
    expect(
      (await loadChatTemplate(folder, `${folder}/mine.jinja`)).render(HELLO),
    ).toBe("mine Hello");
    expect(
      (await loadChatTemplate(folder, "text {{ messages[0].content }}")).render(
        HELLO,
      ),
    ).toBe("text Hello");
  });

  it("a named list: tool_use when there are tools", async () => {
    const named = [
      { name: "default", template: "plain" },
      { name: "tool_use", template: "tools {{ tools | length }}" },
    ];
    const template = await loadChatTemplate(
      modelDir({ "tokenizer_config.json": { chat_template: named } }),
    );
    expect(template.render(HELLO)).toBe("plain");
    expect(template.render(HELLO, { tools: [] })).toBe("plain");
    expect(template.render(HELLO, { tools: [{ type: "function" }] })).toBe(
      "tools 1",
    );
  });

  it("additional_chat_templates beside chat_template.jinja", async () => {
    const folder = modelDir({ "chat_template.jinja": "plain" });
    mkdirSync(`${folder}/additional_chat_templates`);
    writeFileSync(
      `${folder}/additional_chat_templates/tool_use.jinja`,
      "tools",
    );
    const template = await loadChatTemplate(folder);
    expect(template.render(HELLO)).toBe("plain");
    expect(template.render(HELLO, { tools: [{}] })).toBe("tools");
  });

  it("nowhere: the error names --chat-template", async () => {
    const template = await loadChatTemplate(modelDir({}));
    expect(template.available).toBe(false);
    expect(() => template.render(HELLO)).toThrow(
      expect.objectContaining({
        code: "invalid_request",
        param: "messages",
        message: expect.stringContaining("--chat-template"),
      }),
    );
  });

  it.each<[string, Record<string, unknown>, string | null, string, RegExp]>([
    [
      "bad syntax in the model",
      { "chat_template.jinja": "{% if %}" },
      null,
      "invalid_model",
      /chat_template\.jinja: the chat template cannot be parsed/,
    ],
    [
      "bad syntax in the flag",
      {},
      "{% if %}",
      "invalid_config",
      /--chat-template: the chat template cannot be parsed/,
    ],
    [
      "a file that is not there",
      {},
      "no/such.jinja",
      "invalid_config",
      /expected a file or the text/,
    ],
    [
      "a number",
      { "tokenizer_config.json": { chat_template: 3 } },
      null,
      "invalid_model",
      /chat_template: expected a string or a list, got number 3/,
    ],
    [
      "a bad list",
      { "tokenizer_config.json": { chat_template: [{ name: "x" }] } },
      null,
      "invalid_model",
      /chat_template\[0\]/,
    ],
  ])("%s is an error at load", async (_, files, override, code, message) => {
    const error = await failure(loadChatTemplate(modelDir(files), override));
    expect(error.code).toBe(code);
    expect(error.message).toMatch(message);
  });
});

describe("what a template gets", () => {
  it("special tokens, as strings or AddedToken objects, from either file", async () => {
    const folder = modelDir({
      "tokenizer_config.json": {
        bos_token: "<s>",
        eos_token: { __type: "AddedToken", content: "</s>" },
        pad_token: null,
      },
      "special_tokens_map.json": {
        bos_token: "<other>",
        unk_token: "<unk>",
        additional_special_tokens: ["<x>"],
      },
    });
    const text =
      "{{ bos_token }}{{ eos_token }}{{ unk_token }}{{ pad_token is defined }}{{ additional_special_tokens[0] }}";
    expect((await loadChatTemplate(folder, text)).render(HELLO)).toBe(
      "<s></s><unk>false<x>",
    );
  });

  it("a generation prompt unless told otherwise", async () => {
    expect(await render(CHATML)).toBe("<|user|>Hello<|end|><|assistant|>");
    expect(await render(CHATML, HELLO, { addGenerationPrompt: false })).toBe(
      "<|user|>Hello<|end|>",
    );
  });

  it("tools and documents, none where there are none", async () => {
    const text = "{{ tools is none }} {{ documents is none }}";
    expect(await render(text)).toBe("true true");
    expect(await render(text, HELLO, { tools: [{}], documents: [{}] })).toBe(
      "false false",
    );
  });

  it("chat_template_kwargs, which win over options but not over messages and functions", async () => {
    const kwargs = { enable_thinking: true, add_generation_prompt: false };
    expect(
      await render(`{{ enable_thinking }}${CHATML}`, HELLO, {
        chatTemplateKwargs: kwargs,
      }),
    ).toBe("true<|user|>Hello<|end|>");
    for (const name of [
      "messages",
      "raise_exception",
      "strftime_now",
      "chat_template",
    ]) {
      const error = await failure(
        render(CHATML, HELLO, { chatTemplateKwargs: { [name]: 1 } }),
      );
      expect([error.code, error.param]).toEqual([
        "invalid_request",
        "chat_template_kwargs",
      ]);
    }
  });

  it("raise_exception: the template's message, as an error about messages", async () => {
    const error = await failure(
      render("{{ raise_exception('roles must alternate') }}"),
    );
    expect([error.code, error.param, error.message]).toEqual([
      "invalid_request",
      "messages",
      "roles must alternate",
    ]);
  });

  it("what a template runs into is an error about messages too", async () => {
    const error = await failure(
      render("{{ messages[0].content + nothing.at.all }}"),
    );
    expect([error.code, error.param]).toEqual(["invalid_request", "messages"]);
  });

  it("the frozen clock", async () => {
    const now = new Date(2025, 6, 5, 15, 4, 9, 7);
    const formats: [string, string][] = [
      ["%d %b %Y", "05 Jul 2025"],
      ["%B %-d, %Y", "July 5, 2025"],
      ["%A %a %j", "Saturday Sat 186"],
      ["%Y-%m-%dT%H:%M:%S.%f", "2025-07-05T15:04:09.007000"],
      ["%I:%M %p|%-I|%e|%y|%w|%u", "03:04 PM|3| 5|25|6|6"],
      ["%F %T %D %R", "2025-07-05 15:04:09 07/05/25 15:04"],
      ["%c", "Sat Jul  5 15:04:09 2025"],
      ["100%% %Q%Z%z", "100% %Q"],
    ];
    for (const [format, expected] of formats)
      expect(
        await render(`{{ strftime_now('${format}') }}`, HELLO, { now }),
      ).toBe(expected);
  });

  it("Python's way with tuples, strip(chars), undefined values, dict and range", async () => {
    expect(
      await render(
        "{% for a, b in [(1, 'x'), (2, 'y')] %}{{ a }}{{ b }}{% endfor %}",
      ),
    ).toBe("1x2y");
    expect(
      await render(
        "[{{ '\\n  a \\n'.strip('\\n') }}|{{ 'xya'.lstrip('yx') }}|{{ 'a..'.rstrip('.') }}|{{ ' a '.strip() }}]",
      ),
    ).toBe("[  a |a|a|a]");
    expect(
      await render(
        "[{{ nothing | trim }}{{ nothing | length }}{{ tools | selectattr('a') | list | length }}]",
      ),
    ).toBe("[00]");
    expect(await render("{{ dict(a=1, b=dict({'c': [2]})) | tojson }}")).toBe(
      '{"a": 1, "b": {"c": [2]}}',
    );
    expect(
      await render(
        "{{ range(3) | list }}{{ range(5, 0, -2) | list }}{{ range(1, 1) | list }}",
      ),
    ).toBe("[0, 1, 2][5, 3, 1][]");
    expect((await failure(render("{{ range(1000000000) }}"))).message).toMatch(
      /at most 100000/,
    );
    expect((await failure(render("{{ range(1, 2, 0) }}"))).message).toMatch(
      /range\(1, 2, 0\)/,
    );
  });

  it("tojson as transformers writes it", async () => {
    const tools = [{ name: "é<'&>", list: [1, 2.5, true, null], empty: {} }];
    expect(await render("{{ tools | tojson }}", HELLO, { tools })).toBe(
      '[{"name": "é<\'&>", "list": [1, 2.5, true, null], "empty": {}}]',
    );
    expect(
      await render("{{ tools[0].list | tojson(indent=2) }}", HELLO, { tools }),
    ).toBe("[\n  1,\n  2.5,\n  true,\n  null\n]");
  });

  it("text that looks like a template stays text", async () => {
    const messages = [{ role: "user", content: "{{ 1 + 1 }}{% endfor %}" }];
    expect(await render(CHATML, messages, { addGenerationPrompt: false })).toBe(
      "<|user|>{{ 1 + 1 }}{% endfor %}<|end|>",
    );
  });
});

describe("content", () => {
  const parts: ChatMessage[] = [
    {
      role: "user",
      content: [
        { type: "text", text: "one" },
        "two",
        { type: "input_text", text: "three" },
      ],
    },
  ];

  it("parts are joined by lines for a template that prints a string", async () => {
    expect(await render(CHATML, parts, { addGenerationPrompt: false })).toBe(
      "<|user|>one\ntwo\nthree<|end|>",
    );
  });

  it("parts stay parts for a template that loops over them, and strings become one", async () => {
    expect(await render(PARTS, parts)).toBe("[text:one][text:two][text:three]");
    expect(await render(PARTS, HELLO)).toBe("[text:Hello]");
  });

  it("both stay what they are for a template that takes both", async () => {
    expect(await render(BOTH, parts)).toBe("(one)(two)(three)");
    expect(await render(BOTH, HELLO)).toBe("Hello");
  });

  it("a list of tool calls in the content is no list of parts", async () => {
    const text =
      "{% for m in messages %}{% set calls = m.content %}{% if m.role == 'x' %}{% for c in calls %}{{ c.id }}{% endfor %}{% else %}{{ m.content }}{% endif %}{% endfor %}";
    expect(await render(text, HELLO)).toBe("Hello");
  });

  it("an image is refused by a template that takes text, and passed on to one that takes parts", async () => {
    const image: ChatMessage[] = [
      {
        role: "user",
        content: [{ type: "image_url", image_url: { url: "x" } }],
      },
    ];
    const error = await failure(render(CHATML, image));
    expect([error.code, error.param]).toEqual([
      "unsupported",
      "messages[0].content[0]",
    ]);
    expect(error.message).toContain('"image_url"');
    expect(await render(PARTS, image)).toBe("[image_url:]");
  });

  it("none is empty text, unless the template asks about it", async () => {
    const none: ChatMessage[] = [
      { role: "assistant", content: null },
      { role: "assistant" },
    ];
    const options = { addGenerationPrompt: false };
    expect(await render(CHATML, none, options)).toBe(
      "<|assistant|><|end|><|assistant|><|end|>",
    );
    const asks =
      "{% for m in messages %}{% if m.content is none %}none,{% elif m.content is not defined %}missing,{% endif %}{% endfor %}";
    expect(await render(asks, none)).toBe("none,missing,");
  });

  it("other fields that are null, and empty lists of tool calls, are left out", async () => {
    const text =
      "{% for m in messages %}{{ m.tool_calls is defined }}{{ m.name is defined }}{% endfor %}";
    expect(
      await render(text, [
        { role: "user", content: "", tool_calls: [], name: null },
      ]),
    ).toBe("falsefalse");
  });
});

describe("arguments of tool calls", () => {
  const call = (args: unknown): ChatMessage[] => [
    {
      role: "assistant",
      content: "",
      tool_calls: [
        { id: "1", type: "function", function: { name: "f", arguments: args } },
      ],
    },
  ];
  const asObject =
    "{{ messages[0].tool_calls[0].function.arguments | tojson }}";
  const asText =
    "{% for c in messages[0].tool_calls %}{{ '>' + c['function']['arguments'] }}{% endfor %}";

  it("become an object for most templates", async () => {
    expect(await render(asObject, call('{"a":  [1]}'))).toBe('{"a": [1]}');
    expect(await render(asObject, call({ a: 1 }))).toBe('{"a": 1}');
    expect(await render(asObject, call(""))).toBe("{}");
    expect(
      await render("{{ messages[0].tool_calls[0] | tojson }}", call('{"a":1}')),
    ).toContain('"arguments": {"a": 1}');
  });

  it("stay text for a template that writes them as text", async () => {
    expect(await render(asText, call('{"a":  [1]}'))).toBe('>{"a":  [1]}');
  });

  it("that are not JSON are an error that names them", async () => {
    const error = await failure(render(asObject, call("{oops")));
    expect([error.code, error.param]).toEqual([
      "invalid_request",
      "messages[0].tool_calls[0].function.arguments",
    ]);
  });
});

describe("continue_final_message", () => {
  const open: ChatMessage[] = [
    ...HELLO,
    { role: "assistant", content: "Sure: " },
  ];
  const continued = { continueFinalMessage: true };

  it("ends right after the content, its trailing space too", async () => {
    expect(await render(CHATML, open, continued)).toBe(
      "<|user|>Hello<|end|><|assistant|>Sure: ",
    );
  });

  it("ends before the space where the template trims contents", async () => {
    const trims = CHATML.replace("m.content", "m.content | trim");
    expect(await render(trims, open, continued)).toBe(
      "<|user|>Hello<|end|><|assistant|>Sure:",
    );
  });

  it("works on the last text part", async () => {
    const last: ChatMessage[] = [
      {
        role: "assistant",
        content: [
          { type: "text", text: "a" },
          { type: "text", text: "b" },
        ],
      },
    ];
    expect(await render(PARTS, last, continued)).toBe("[text:a][text:b");
    expect(await render(CHATML, last, continued)).toBe("<|assistant|>a\nb");
  });

  it("is not misled by an earlier message with the same content, or with the mark", async () => {
    const twice: ChatMessage[] = [
      { role: "assistant", content: "CONTINUE_FROM_HERE_0 " },
      ...HELLO,
      { role: "assistant", content: "Hello" },
    ];
    expect(await render(CHATML, twice, continued)).toBe(
      "<|assistant|>CONTINUE_FROM_HERE_0 <|end|><|user|>Hello<|end|><|assistant|>Hello",
    );
  });

  it.each<[string, ChatMessage[], RenderOptions]>([
    [
      "with a generation prompt",
      open,
      { ...continued, addGenerationPrompt: true },
    ],
    ["without text to continue", [{ role: "user", content: [] }], continued],
    ["without messages", [], continued],
  ])("%s is an error", async (_, messages, options) => {
    const error = await failure(render(PARTS, messages, options));
    expect([error.code, error.param]).toEqual([
      "invalid_request",
      "continue_final_message",
    ]);
  });

  it("where the template drops the final message is an error", async () => {
    const error = await failure(
      render("{{ messages[0].content }}", open, continued),
    );
    expect([error.code, error.param]).toEqual([
      "invalid_request",
      "continue_final_message",
    ]);
  });
});
