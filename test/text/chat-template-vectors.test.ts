/** Published templates against their published output, and against Python's Jinja. */
import { fileURLToPath } from "node:url";
import { expect, it } from "vitest";
import {
  loadChatTemplate,
  type ChatMessage,
} from "../../src/text/chat-template.js";
import { parseTemplate, renderTemplate } from "../../src/text/jinja.js";
import { templateGlobals } from "../../src/text/template-globals.js";
import {
  describeWithShared,
  modelDir,
  readJson,
  shared,
} from "./shared-data.js";

interface EndToEnd {
  readonly frozen_now: string;
  readonly default: Record<string, EndToEndCase>;
  readonly custom: Record<string, EndToEndCase>;
}

interface EndToEndCase {
  readonly chat_template: string;
  readonly data: {
    readonly messages: ChatMessage[];
    readonly tools?: unknown[];
    readonly documents?: unknown[];
    readonly add_generation_prompt?: boolean;
    readonly bos_token?: string;
    readonly eos_token?: string;
    readonly [variable: string]: unknown;
  };
  readonly target: string;
}

describeWithShared(
  "chat-templates/e2e_vectors.json",
  "the 53 templates",
  () => {
    const vectors = readJson<EndToEnd>(
      shared("chat-templates/e2e_vectors.json"),
    );
    const cases = [
      ...Object.entries(vectors.default).map(
        ([name, vector]) => [`default ${name}`, vector] as const,
      ),
      ...Object.entries(vectors.custom),
    ];

    it("are all there", () => {
      expect(cases).toHaveLength(53);
    });

    it.each(cases)("%s", async (_, { chat_template, data, target }) => {
      const {
        messages,
        tools,
        documents,
        add_generation_prompt,
        bos_token,
        eos_token,
        ...variables
      } = data;
      const folder = modelDir({
        "tokenizer_config.json": { bos_token, eos_token, chat_template },
      });
      const template = await loadChatTemplate(folder);
      // A vector without add_generation_prompt was made without the variable, and a template or two asks whether it is
      // defined.
      const absent =
        add_generation_prompt === undefined ? { add_generation_prompt } : {};
      const text = template.render(messages, {
        tools,
        documents,
        addGenerationPrompt: add_generation_prompt,
        chatTemplateKwargs: { ...variables, ...absent },
        now: new Date(vectors.frozen_now),
      });
      expect(text).toBe(target);
    });
  },
);

interface Expected {
  readonly text?: string;
  readonly error?: string;
}

interface Oracle {
  readonly now: string;
  readonly tokens: Record<string, string>;
  readonly conversations: Record<
    string,
    {
      readonly messages: ChatMessage[];
      readonly tools: unknown[] | null;
      readonly addGenerationPrompt: boolean;
    }
  >;
  readonly cases: readonly {
    readonly template: string;
    readonly conversation: string;
    readonly expected: { readonly object: Expected; readonly text?: Expected };
  }[];
}

describeWithShared(
  "chat-templates/jinja",
  "published templates give what Python's Jinja gives",
  () => {
    const oracle = readJson<Oracle>(
      fileURLToPath(new URL("fixtures/templates.json", import.meta.url)),
    );

    it.each(
      oracle.cases.map(
        (one) => [one.template, one.conversation, one.expected] as const,
      ),
    )("%s: %s", async (template, conversation, expected) => {
      const folder = modelDir({ "tokenizer_config.json": oracle.tokens });
      const loaded = await loadChatTemplate(
        folder,
        shared(`chat-templates/jinja/${template}`),
      );
      const { messages, tools, addGenerationPrompt } = oracle.conversations[
        conversation
      ] ?? {
        messages: [],
        tools: null,
        addGenerationPrompt: true,
      };
      const render = () =>
        loaded.render(messages, {
          tools,
          addGenerationPrompt,
          now: new Date(oracle.now),
        });
      // Jinja's filters give generators, which its own tojson cannot write; here they give lists.
      if (expected.object.error?.includes("generator") === true) return;
      // Templates that join the arguments of calls to text fail with objects: those get text.
      const { text } =
        expected.object.error === undefined
          ? expected.object
          : (expected.text ?? expected.object);
      if (text === undefined)
        expect(render).toThrow(
          expect.objectContaining({ code: "invalid_request" }),
        );
      else expect(render()).toBe(text);
    });
  },
);

interface Snippet {
  readonly template: string;
  readonly context: Record<string, unknown>;
  readonly expected: string;
  readonly context_has_functions?: boolean;
}

describeWithShared(
  "chat-templates/template_vectors.json",
  "snippets of template syntax",
  () => {
    const snippets = Object.entries(
      readJson<Record<string, Snippet>>(
        shared("chat-templates/template_vectors.json"),
      ),
    );
    // Functions do not survive in JSON, so those with functions in their context have none to call.
    const usable = snippets.filter(
      ([, snippet]) => snippet.context_has_functions !== true,
    );

    it.each(usable)("%s", (_, { template, context, expected }) => {
      const variables = { ...templateGlobals(new Date(0)), ...context };
      expect(renderTemplate(parseTemplate(template), variables)).toBe(expected);
    });
  },
);
