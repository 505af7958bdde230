import { describe, expect, it } from "vitest";
import type {
  ChatMessage,
  RenderOptions,
} from "../../src/text/chat-template.js";
import {
  BOTH,
  CHATML,
  failure,
  HELLO,
  PARTS,
  render,
} from "./render-template.js";

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
