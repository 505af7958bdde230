import { mkdirSync, writeFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { loadChatTemplate } from "../../src/text/chat-template.js";
import { CHATML, failure, HELLO, render } from "./render-template.js";
import { modelDir } from "./shared-data.js";

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
