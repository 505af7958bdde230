/** Small templates, and rendering with one of them. */
import { OctavoError } from "../../src/core/errors.js";
import {
  loadChatTemplate,
  type ChatMessage,
  type RenderOptions,
} from "../../src/text/chat-template.js";
import { modelDir } from "./shared-data.js";

export const CHATML =
  "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}" +
  "{% if add_generation_prompt %}<|assistant|>{% endif %}";
export const PARTS =
  "{% for m in messages %}{% for part in m['content'] %}[{{ part.type }}:{{ part.text }}]{% endfor %}{% endfor %}";
export const BOTH =
  "{% macro show(c) %}{% if c is string %}{{ c }}{% else %}{% for p in c %}({{ p['text'] }}){% endfor %}{% endif %}{% endmacro %}" +
  "{% for m in messages %}{{ show(m.content) }}{% endfor %}";

export const HELLO: ChatMessage[] = [{ role: "user", content: "Hello" }];

/** Renders with a template given as --chat-template. */
export async function render(
  template: string,
  messages: ChatMessage[] = HELLO,
  options: RenderOptions = {},
): Promise<string> {
  return (await loadChatTemplate(modelDir({}), template)).render(
    messages,
    options,
  );
}

export async function failure(promise: Promise<unknown>): Promise<OctavoError> {
  try {
    await promise;
  } catch (error) {
    if (error instanceof OctavoError) return error;
    throw error;
  }
  throw new Error("expected an OctavoError");
}
